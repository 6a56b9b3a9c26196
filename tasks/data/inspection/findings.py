"""What the numbers of a quality report mean: a verdict each, with count, example and remedy.

Every bound is a constant with its reason. A verdict is no number of a result: it is made anew where
it is shown.
"""

from collections.abc import Iterator, Mapping
from itertools import chain

from tasks.data.conversion.dialogues import THUMBS_DOWN
from tasks.data.formats import TIE, Collection
from tasks.data.inspection.balance import judge_balance
from tasks.data.inspection.records import (
    SEVERITIES,
    CollectionInspection,
    Finding,
    Leak,
    percent,
)
from tasks.data.report import (
    CONTROLS,
    ENTITIES,
    MOJIBAKE,
    PLACEHOLDER,
    REMOVED,
    CollectionReport,
    PreparationReport,
)
from tasks.data.tally import BOTH_DIRECTIONS, DUPLICATE, HELD_OUT

DROPPED_LOOK, DROPPED_WRONG = 0.1, 0.5
"""Of the rows read: a tenth is more than dirt; half says that the file is not what it is taken
for."""
DELIBERATE = (DUPLICATE, BOTH_DIRECTIONS, HELD_OUT, TIE, THUMBS_DOWN, "prompt longer than")
"""How reasons begin that say nothing against a file."""
MOJIBAKE_WRONG = 0.01
"""Of the usable rows: stray ones come with every crawl, one in a hundred from a wrong decoding."""
NEAR_LOOK = 0.05
"""Of the training rows: from here on repeated texts weigh visibly more than the others."""
LEAK_LOOK, LEAK_WRONG = 0.02, 0.5
"""Of the held-out rows: two in a hundred are within the error of most measurements; with half of
them seen in training there is nothing left that is held out."""
FEW_PAIRS = 100
"""Held-out pairs below which an accuracy is known within ten points only."""

_MEASURES: Mapping[tuple[Collection, str], tuple[str, tuple[Collection, ...]]] = {
    ("prompts", "prompt"): (
        "the policy is then judged on prompts that were seen; name others in data.heldout_prompts",
        ("demonstrations", "preferences", "prompts"),
    ),
    ("preferences", "text"): (
        "the reward model's accuracy then counts answers that were seen; name others in "
        "data.heldout_preferences",
        ("preferences", "demonstrations", "corpus"),
    ),
    ("demonstrations", "text"): (
        "the SFT model's held-out loss is then too low; take these texts out of training",
        ("demonstrations", "corpus"),
    ),
    ("corpus", "text"): (
        "the base model's held-out loss is then too low; take near duplicates out of the corpus",
        ("corpus",),
    ),
}
"""The leaks that spoil a measurement, by what is held out: why, and from which training rows."""


def judge_data(report: PreparationReport) -> tuple[Finding, ...]:
    """Say what of prepared data is wrong, worth a look and fine, in this order."""
    inspected = {one.name: one for one in report.inspection.collections}
    found: list[Finding] = []
    for each in report.collections:
        found += chain(_sides(each), _dropped(each), _ties(each), _damaged(each))
        if each.name in inspected:
            found += _near(inspected[each.name])
    found += chain(_leaks(report), _few(report), judge_balance(report.inspection))
    return tuple(sorted(found, key=lambda one: SEVERITIES.index(one.severity)))


def _sides(each: CollectionReport) -> Iterator[Finding]:
    """Whether anything is left to measure on: without it a run stops."""
    if each.train and not each.heldout:
        unit = "text" if each.name == "corpus" else "prompt"
        yield Finding(
            severity="wrong",
            text=f"{each.name}: no row can be held out of {each.train}, which have one {unit}",
            remedy=f"add rows with other {unit}s, or name held-out ones of their own",
        )


def _dropped(each: CollectionReport) -> Iterator[Finding]:
    total = each.read + each.expanded
    unusable = {
        reason: rows for reason, rows in each.dropped.items() if not reason.startswith(DELIBERATE)
    }
    share = sum(unusable.values()) / total if total else 0.0
    if share < DROPPED_LOOK:
        if each.read:
            yield Finding(
                severity="fine",
                text=f"{each.name}: {sum(unusable.values())} of {total} rows cannot be used",
            )
        return
    reason, rows = max(unusable.items(), key=lambda one: one[1])
    examples = each.examples.get(reason, ())
    yield Finding(
        severity="wrong" if share > DROPPED_WRONG else "look",
        text=f"{each.name}: {percent(share)} of {total} rows are dropped as unusable, most of them "
        f"({rows}) because: {reason}",
        remedy="look at these rows in the file, and at what it was recognised as",
        example=examples[0].text if examples else "",
    )


def _ties(each: CollectionReport) -> Iterator[Finding]:
    ties = each.dropped.get(TIE, 0) + each.dropped.get(BOTH_DIRECTIONS, 0)
    share = ties / max(1, each.read + each.expanded)
    if share >= DROPPED_LOOK:
        yield Finding(
            severity="look",
            text=f"{each.name}: {ties} rows ({percent(share)}) say that neither side is better, "
            "and are dropped",
            remedy="data.ties=half trains on those that are marked as ties, in both orders",
        )


def _damaged(each: CollectionReport) -> Iterator[Finding]:
    usable = max(1, sum(file.kept for file in each.files))  # duplicates are counted too
    for count, what, bound, remedy in (
        (each.mojibake, MOJIBAKE, MOJIBAKE_WRONG, "give the right data.encoding, or repair the "
         "file where it was made"),
        (each.cleaned, REMOVED, 1.0, "nothing, if the texts read well without them"),
        (each.controls, CONTROLS, 1.0, "remove them, or drop these rows"),
        (each.entities, ENTITIES, 1.0, "unescape them (html.unescape), unless they teach HTML"),
        (each.placeholders, PLACEHOLDER, 1.0, "fill the template in, or drop these rows"),
    ):  # fmt: skip
        if count:
            examples = each.examples.get(what, ())
            yield Finding(
                severity="wrong" if count / usable > bound else "look",
                text=f"{each.name}: {count} rows ({percent(count / usable)}): {what}",
                remedy=remedy,
                example=examples[0].text if examples else "",
            )


def _near(each: CollectionInspection) -> Iterator[Finding]:
    train = each.train
    found = each.near_duplicates
    if train and found.rows / train >= NEAR_LOOK:
        example = found.examples[0] if found.examples else None
        yield Finding(
            severity="look",
            text=f"{each.name}: {found.rows} training rows ({percent(found.rows / train)}) nearly "
            "repeat another one",
            remedy="keep one of each, or they weigh more than the others",
            example=f"{example.first} / {example.second}" if example else "",
        )
    elif train:
        yield Finding(
            severity="fine",
            text=f"{each.name}: {found.rows} of {train} training rows nearly repeat another one",
        )


def _leaks(report: PreparationReport) -> Iterator[Finding]:
    found = {(one.heldout, one.what, one.train): one for one in report.inspection.leaks}
    for (heldout, what), (why, sources) in _MEASURES.items():
        leaks = [found[key] for train in sources if (key := (heldout, what, train)) in found]
        worst = max(leaks, key=_leaked, default=None)
        if worst is not None and _leaked(worst) / worst.rows >= LEAK_LOOK:
            yield _leak(worst, why)
        elif any(one.name == heldout and one.heldout for one in report.inspection.collections):
            yield Finding(
                severity="fine",
                text=f"{heldout}: {_leaked(worst) if worst else 0} held-out {what}s stand in "
                f"training rows",
            )


def _leak(leak: Leak, why: str) -> Finding:
    share = _leaked(leak) / leak.rows
    is_spoilt = leak.heldout == leak.train == "preferences" and share > LEAK_WRONG
    example = leak.examples[0] if leak.examples else None
    near = f", {leak.near} of them nearly" if leak.near else ""
    return Finding(
        severity="wrong" if is_spoilt else "look",
        text=f"{leak.heldout}: {_leaked(leak)} of {leak.rows} held-out {leak.what}s "
        f"({percent(share)}) stand in the training rows of {leak.train}{near}",
        remedy=why,
        example=example.first if example else "",
    )


def _leaked(leak: Leak) -> int:
    return leak.exact + leak.near


def _few(report: PreparationReport) -> Iterator[Finding]:
    for each in report.collections:
        if each.name == "preferences" and 0 < each.heldout < FEW_PAIRS:
            yield Finding(
                severity="look",
                text=f"preferences: {each.heldout} held-out pairs; an accuracy is then known "
                f"within {1 / each.heldout**0.5:.0%} only",
                remedy="raise data.heldout_fraction or name more in data.heldout_preferences",
            )
