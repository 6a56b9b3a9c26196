"""Tags of a registered version that say what was done with it: by whom, when and why."""

import datetime
import getpass
from collections.abc import Mapping

from tasks.tracking.client import Tracker


def set_tags(
    tracker: Tracker, name: str, version: str, prefix: str, tags: Mapping[str, str]
) -> None:
    """Write tags below a prefix, in their order; the one without a name is the prefix itself."""
    for key, value in tags.items():
        full = f"{prefix}.{key}" if key else prefix
        tracker.client.set_model_version_tag(name, version, full, value)


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def user() -> str:
    """Name of whoever runs this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "unknown"
