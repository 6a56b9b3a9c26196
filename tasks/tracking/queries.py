"""What MLflow is asked for: filters, and answers of many pages."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tasks.results.digests import DIGEST

BELOW = ("stage", "comparison")
PARENTS = " and ".join(f"tags.`quartet.kind` != '{kind}'" for kind in BELOW)
"""Filter for runs of flows, which have the runs of stages below them."""


NAMES = "quartet.names"
"""Tag with every digest that a run names, so that who refers to a stage is one question."""

NAMING = ("quartet.digest", "quartet.published")
"""Tags that hold a digest, beside those of the inputs."""

WEIGHTS_REMOVED = "quartet.weights_removed"
"""Tag of runs and versions whose weights and samples `quartet gc --keep-days` removed: the date."""

PINNED = "quartet.pinned"
"""Tag with which people keep the weights of a run or a version, whatever its value."""

LOGGED = re.compile(r"models:/(m-[^/]+)")
"""Source of a version whose files are a logged model's, and the model's id."""

MOST_NAMES = 100
"""What names more has no such tag: its value would be cut off."""


def named_digests(tags: Mapping[str, str]) -> set[str]:
    """Every digest that tags name, their stage's own and those of its inputs."""
    texts = [text for key, text in tags.items() if key in NAMING or key.startswith("input.")]
    return {match for text in texts for match in DIGEST.findall(text)}


def with_names(tags: Mapping[str, str]) -> dict[str, str]:
    """All tags of a new run, and the one that lists the digests in them."""
    digests = named_digests(tags)
    few = 0 < len(digests) <= MOST_NAMES
    return {**tags, **({NAMES: " ".join(sorted(digests))} if few else {})}


def every(search: Callable[..., Any], **query: Any) -> Iterator[Any]:
    """All that one of the client's searches finds, page by page."""
    token: str | None = None
    while True:
        page = search(**query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def tagged(tags: Mapping[str, str]) -> str:
    """Filter for what carries all these tags."""
    return " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
