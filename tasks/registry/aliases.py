"""The aliases of a registered model, changed by one at a time and never by halves, and who did it.

    challenger   the one to use or promote next: of policies the best accepted one, of models that
                 nobody accepts or rejects the newest (`tasks/registry/verdicts.py`)
    champion     the one in use; overwritten, never deleted, so there is one at all times
    previous     the champion before; what a rollback goes back to

The last two are people's decisions; processes that move them take turns
(`tasks/registry/turns.py`). A change of several aliases is a journal first:
the tag `quartet.aliases` says where they shall point and what the tags of which versions shall say;
then all of that is written, then the tag goes. Whoever finds a journal that a crash left carries it
out, from the beginning: to write the same twice changes nothing.
"""

import contextlib
import datetime
import getpass
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from models.errors import ModelError, QuartetError
from tasks.registry.turns import Turn, taking_turns
from tasks.registry.versions import asking, find_registered
from tasks.run.reporting import run_logger
from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import tolerated
from tasks.tracking.queries import every

PREVIOUS: Literal["previous"] = "previous"

JOURNAL = "quartet.aliases"
NOTE_CHARACTERS = 1000
"""Of a person's note; a journal, with two of them, must fit into one tag of MLflow."""


Number: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9]+$")]


class Journal(BaseModel):
    """A change that was decided.

    Attributes:
        what: In words, for messages.
        aliases: Version by alias, in the order in which they are moved.
        tags: By version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    aliases: dict[Literal["champion", "previous"], Number]
    tags: dict[Number, dict[str, str]]


class AliasChange:
    """A registered model's aliases, had to oneself; each write makes sure of that.

    Attributes:
        finished: What a crash had left undone and is done now, in words; empty if nothing was left.
    """

    def __init__(self, tracker: Tracker, name: str, turn: Turn) -> None:
        """Say whose aliases, and by what right."""
        self._tracker, self._name, self._turn = tracker, name, turn
        self.finished = self._finish()

    def tag(self, version: str, tags: Mapping[str, str]) -> None:
        """Write tags of a version, in their order."""
        for key, value in tags.items():
            self._turn.extend()
            self._tracker.client.set_model_version_tag(self._name, version, key, value)

    def move(self, journal: Journal) -> None:
        """Point aliases at versions and tag these: all or, after a crash, all at the next turn."""
        self._turn.extend()
        text = journal.model_dump_json()
        self._tracker.client.set_registered_model_tag(self._name, JOURNAL, text)
        self._carry_out(journal)

    def _finish(self) -> str:
        journal = _read_journal(self._tracker, self._name)
        if journal is None:
            return ""
        gone = [
            one for one in {*journal.aliases.values(), *journal.tags}
            if not _exists(self._tracker, self._name, one)
        ]  # fmt: skip
        if gone:
            run_logger().warning(
                "%s: %s was cut off and is given up, for version %s was deleted since",
                self._name, journal.what, ", ".join(sorted(gone)),
            )  # fmt: skip
            self._drop()
            return ""
        self._carry_out(journal)
        run_logger().warning("%s: %s was cut off and is finished now", self._name, journal.what)
        return journal.what

    def _carry_out(self, journal: Journal) -> None:
        for alias, version in journal.aliases.items():
            self._turn.extend()
            self._tracker.client.set_registered_model_alias(self._name, alias, version)
        for version, tags in journal.tags.items():
            self.tag(version, tags)
        self._drop()

    def _drop(self) -> None:
        self._turn.extend()
        self._tracker.client.delete_registered_model_tag(self._name, JOURNAL)


def read_aliases(tracker: Tracker, name: str) -> dict[str, str]:
    """Give each alias's version.

    Raises:
        ModelError: MLflow has no such registered model or does not answer.
    """
    aliases = find_registered(tracker, name).aliases
    return {alias: str(version) for alias, version in aliases.items()}


@contextlib.contextmanager
def changing_aliases(settings: Settings, tracker: Tracker, name: str) -> Iterator[AliasChange]:
    """Have a registered model's aliases to oneself; what a crash left undone is done first.

    What was read before must be read again inside.

    Raises:
        ModelError: Somebody else is changing them, or MLflow fails; each write can be repeated.
    """
    failed = f"failed while the aliases of {name} were changed"
    remedy = (
        "there is a champion all the same if there was one: run it again, which finishes what was "
        "begun"
    )
    with asking(tracker, failed, remedy), taking_turns(settings, tracker, name) as turn:
        yield AliasChange(tracker, name, turn)


def repair_aliases(settings: Settings, tracker: Tracker, name: str) -> str:
    """Do what a crash left undone; what it was, empty if nothing was left.

    Raises:
        ModelError: As `changing_aliases`.
    """
    if _read_journal(tracker, name) is None:
        return ""
    with changing_aliases(settings, tracker, name) as change:
        return change.finished


def repair_all_aliases(settings: Settings) -> list[str]:
    """As `repair_aliases`, for every registered model; one sentence for each that needed it."""
    tracker = Tracker(settings)
    messages = []
    with tolerated("the aliases that a crash left half moved"):
        tracker.require(patient=True)
        where = f"tags.`{JOURNAL}` LIKE '%'"
        for one in every(tracker.client.search_registered_models, filter_string=where):
            try:
                if what := repair_aliases(settings, tracker, one.name):
                    messages.append(f"{one.name}: {what}, which was cut off, is finished")
            except QuartetError as error:  # the others are repaired all the same
                messages.append(str(error))
    return messages


def _read_journal(tracker: Tracker, name: str) -> Journal | None:
    text = find_registered(tracker, name).tags.get(JOURNAL)
    if text is None:
        return None
    try:
        return Journal.model_validate_json(text)
    except ValidationError as error:
        raise ModelError(
            f"the tag {JOURNAL} of registered model {name} at {tracker.uri} is damaged (got "
            f"{text[:60]!r}, wanted what a promotion or a rollback wrote); see on the model's page "
            "in MLflow that its aliases are right, delete the tag there, and run it again"
        ) from error


def _exists(tracker: Tracker, name: str, version: str) -> bool:
    try:
        tracker.client.get_model_version(name, version)
    except Exception as error:  # only one of them means that it is gone
        if getattr(error, "error_code", "") != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def prefixed(prefix: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Tags below a prefix; the one without a name is the prefix itself."""
    return {f"{prefix}.{key}" if key else prefix: value for key, value in tags.items()}


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def user() -> str:
    """Name of whoever runs this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        return "unknown"
