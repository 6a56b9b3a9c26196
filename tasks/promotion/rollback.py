"""Rollback: champion and previous champion change places.

It must be safe to repeat, for a repetition is what its own messages advise and what people do when
a command was cut off. So the rule is: **a version that was rolled back does not become champion
again by another rollback, unless that names it** (`--to`). Whether it was rolled back stands in its
tags, which the journal of the change writes together with the aliases
(`tasks/registry/aliases.py`): whoever comes next, here or on another machine, finishes the change
and then sees that it is done.
"""

from models.display import one_line
from models.errors import ModelError, ParameterError
from tasks.promotion.promotion import Promotion
from tasks.registry.aliases import (
    NOTE_CHARACTERS,
    PREVIOUS,
    Journal,
    changing_aliases,
    now,
    prefixed,
    read_aliases,
    user,
)
from tasks.registry.registration import finish_cards
from tasks.registry.versions import (
    CARD,
    CHAMPION,
    CHAMPION_AGAIN,
    ROLLBACK,
    ROLLED_BACK,
    UNFINISHED,
    find_version,
)
from tasks.results.store import Store
from tasks.run.reporting import emit, run_logger
from tasks.settings import load_settings
from tasks.tracking.client import Tracker


def rollback(name: str, *, to: str = "", note: str = "") -> Promotion:
    """Let champion and previous champion change places; the note is recorded with both versions.

    To repeat a rollback, whether it was cut off or not, changes nothing: a version that was rolled
    back does not become champion again by another rollback unless `to` names it.

    Args:
        to: The version that shall be champion, where it is not certain to be the one before.
        note: The reason, in at most NOTE_CHARACTERS characters.

    Raises:
        ParameterError: The note is too long.
        ModelError: There is no such version to go back to, the champion changed meanwhile, or the
            aliases cannot be changed.
    """
    settings = load_settings()
    tracker = Tracker(settings)
    name = name.removeprefix("models:/").partition("@")[0]
    if len(note) > NOTE_CHARACTERS:
        raise ParameterError(
            f"the note has {len(note)} characters, wanted {NOTE_CHARACTERS} at most; shorten it"
        )
    seen = read_aliases(tracker, name).get(CHAMPION, "")
    with changing_aliases(settings, tracker, name) as change:
        aliases = read_aliases(tracker, name)
        champion, previous = aliases.get(CHAMPION, ""), aliases.get(PREVIOUS, "")
        done = _is_done(tracker, name, champion, previous, to)
        if not done:
            _refuse_rollback(name, champion, previous, to, seen)
            change.move(_swap(champion, previous, note))
            champion, previous = previous, champion
    return _ended(tracker, name, champion, previous, done=done)


def _is_done(tracker: Tracker, name: str, champion: str, previous: str, to: str) -> bool:
    """Whether this is the repetition of a rollback."""
    if to or not champion or previous in ("", champion):
        return bool(champion) and champion == to
    return find_version(tracker, f"models:/{name}/{previous}").tags.get(ROLLBACK) == ROLLED_BACK


def _swap(champion: str, previous: str, note: str) -> Journal:
    told = {"at": now(), "by": user(), "note": one_line(note, NOTE_CHARACTERS)}
    words = {previous: CHAMPION_AGAIN, champion: ROLLED_BACK}
    return Journal(
        what=f"a rollback from version {champion} to {previous}",
        aliases={CHAMPION: previous, PREVIOUS: champion},
        tags={
            version: {**prefixed(ROLLBACK, {"": word, **told}), UNFINISHED: CARD}
            for version, word in words.items()
        },
    )


def _ended(tracker: Tracker, name: str, champion: str, previous: str, *, done: bool) -> Promotion:
    """Tell of a rollback, also of one that was cut off before it told anybody."""
    tags = find_version(tracker, f"models:/{name}/{champion}").tags
    note = tags.get(f"{ROLLBACK}.note", "")
    if not done:
        reason = f"version {champion} is champion again in the place of {previous}"
    else:
        reason = f"version {champion} is champion already: nothing to do"
        if previous:
            reason += f"; to go back to version {previous}, name it with --to {previous}"
    run_logger().info("%s: %s (%s)", name, reason, note or "no note")
    if UNFINISHED in tags and tags.get(ROLLBACK) == CHAMPION_AGAIN:
        payload = {"name": name, "champion": champion, "previous": previous, "note": note}
        emit("quartet.model.rolled-back", f"quartet.model.{name}", payload)
    finish_cards(tracker, Store(load_settings().store), name, champion, previous)
    return Promotion(
        result="unchanged" if done else "rolled back", name=name, champion=champion,
        previous=previous, reasons=[reason],
    )  # fmt: skip


def _refuse_rollback(name: str, champion: str, previous: str, to: str, seen: str) -> None:
    if not champion or previous in ("", champion):
        raise ModelError(
            f"{name} has no previous champion to roll back to (champion: {champion or 'none'}, "
            f"previous: {previous or 'none'}); a second promotion leaves one, or set the alias "
            "champion on the model's page in MLflow"
        )
    if to and to != previous:
        raise ModelError(
            f"version {to!r} of {name} is neither its champion ({champion}) nor the previous one "
            f"({previous}), wanted one of these two; `quartet promote models:/{name}/NUMBER` "
            "compares another one"
        )
    if not to and champion != seen:
        raise ModelError(
            f"the champion of {name} is version {champion} by now and was {seen or 'none'} when "
            f"this rollback began; run it again if you want to go back from {champion} to "
            f"{previous}"
        )
