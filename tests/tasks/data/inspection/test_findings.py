"""Verdicts on data: each bound from both sides, the sentence, and what makes a check fail."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tasks.data.conversion.dialogues import THUMBS_DOWN
from tasks.data.formats import TIE, Collection
from tasks.data.inspection.findings import judge_data
from tasks.data.inspection.records import (
    Agreement,
    CollectionInspection,
    Finding,
    Histogram,
    Inspection,
    Languages,
    Leak,
    Match,
    NearDuplicates,
    PairNumbers,
    Truncation,
)
from tasks.data.report import (
    ENTITIES,
    MOJIBAKE,
    CollectionReport,
    Example,
    PreparationReport,
    SourceReport,
)
from tasks.data.tally import DUPLICATE, HELD_OUT


def usable(rows: int) -> tuple[SourceReport]:
    """A file with so many usable rows, duplicates among them."""
    return (SourceReport(label="file", source="file", kept=rows),)


def report(
    name: Collection = "preferences",
    dropped: Mapping[str, int] | None = None,
    *,
    read: int = 1000,
    heldout: int = 200,
    inspected: Mapping[str, Any] | None = None,
    **counts: Any,
) -> PreparationReport:
    """A report of one collection and what was inspected."""
    collection = CollectionReport(
        name=name, sources=("file",), read=read, train=800, heldout=heldout, dropped=dropped or {},
        lengths={}, **{"cleaned": 0, "placeholders": 0, "files": usable(1000), **counts},
    )  # fmt: skip
    return PreparationReport(
        source="sources", fingerprint="f", conversational=False, collections=(collection,),
        contrasts=0, overlaps={}, inspection=Inspection(**(inspected or {})),
    )  # fmt: skip


def only(found: PreparationReport, word: str) -> Finding:
    """The finding in whose text a word stands."""
    (finding,) = [one for one in judge_data(found) if word in one.text]
    return finding


PAIRS = PairNumbers(
    pairs=1000, longer=930, equal_length=0, prompts=500, most_pairs=3,
    ties=0, difference=Histogram(edges=(0.0, 1.0), counts=(1,)), margins={}, first_difference=None,
)  # fmt: skip


def inspection(name: Collection, **given: Any) -> CollectionInspection:
    return CollectionInspection(
        **{"name": name, "train": 800, "heldout": 200, "share": 1.0, "columns": {}, **given}
    )


@pytest.mark.parametrize(
    ("rows", "severity"), [(99, "fine"), (100, "look"), (500, "look"), (501, "wrong")]
)
def test_unusable_rows_are_wrong_from_one_half_on(rows: int, severity: str) -> None:
    found = only(report(dropped={"empty prompt": rows, "duplicate": 300}), "rows")
    assert found.severity == severity


def test_the_most_frequent_reason_is_named_with_an_example() -> None:
    examples = {"no <role>": (Example(file="a.json", row=7, text="{…}"),)}
    found = only(report(dropped={"rare": 1, "no <role>": 600}, examples=examples), "dropped")
    assert found.text == (
        "preferences: 60% of 1000 rows are dropped as unusable, most of them (600) because: "
        "no <role>"
    )
    assert found.example == "{…}"
    assert found.severity == "wrong"


def test_what_is_dropped_on_purpose_says_nothing_against_a_file() -> None:
    reasons = (DUPLICATE, HELD_OUT, TIE, THUMBS_DOWN)
    dropped = report(dropped=dict.fromkeys(reasons, 200))
    found = only(dropped, "cannot be used")
    assert (found.severity, found.text) == ("fine", "preferences: 0 of 1000 rows cannot be used")
    assert "data.ties=half" in only(dropped, "200 rows (20%) say that neither").remedy
    few = judge_data(report(dropped={TIE: 99}))
    assert not [one for one in few if "neither" in one.text]


@pytest.mark.parametrize(("rows", "severity"), [(10, "look"), (11, "wrong")])
def test_mojibake_is_wrong_beyond_one_row_in_a_hundred(rows: int, severity: str) -> None:
    assert only(report(mojibake=rows), MOJIBAKE).severity == severity


def test_findings_count_against_the_usable_rows_of_which_some_are_duplicates() -> None:
    found = report(entities=1200, files=usable(1250))  # 1000 are left, 1200 / 1250 is 96%
    assert only(found, ENTITIES).text == f"preferences: 1200 rows (96%): {ENTITIES}"
    assert only(found, ENTITIES).severity == "look"
    assert only(report(mojibake=12, files=usable(1200)), MOJIBAKE).severity == "look"


@pytest.mark.parametrize(
    ("longer", "severity", "words"),
    [
        (930, "look", "longer in 93.0%"),
        (70, "look", "shorter in 93.0%"),
        (660, "fine", "longer in 66.0%"),  # its interval begins at 63%
        (500, "fine", "longer in 50.0%"),
    ],
)
def test_a_bias_to_length_counts_where_it_is_certain(
    longer: int, severity: str, words: str
) -> None:
    pairs = replace(PAIRS, longer=longer)
    found = only(report(inspected={"pairs": pairs}), "unequal length")
    assert found.severity == severity
    assert words in found.text
    assert bool(found.remedy) == (severity == "look")


def test_one_prompt_with_most_pairs_and_an_empty_margin_are_reported() -> None:
    pairs = replace(PAIRS, most_pairs=300, prompts=2, margins={"0": 1000})
    found = report(inspected={"pairs": pairs})
    assert only(found, "one prompt has 300 of 1000 pairs").severity == "look"
    assert only(found, "every margin is 0").severity == "look"


@pytest.mark.parametrize(
    ("pairs", "equal", "severity"), [(20, 0.55, "look"), (19, 0.55, "fine"), (500, 0.72, "fine")]
)
def test_judges_that_hardly_agree_are_reported(pairs: int, equal: float, severity: str) -> None:
    agreement = Agreement(pairs=pairs, judgements=2 * pairs, equal=equal)
    assert only(report(inspected={"agreement": agreement}), "two judgements").severity == severity


MATCH = Match(first="seen", second="seen", similarity=1.0)


@pytest.mark.parametrize(
    ("heldout", "train", "what", "exact", "severity"),
    [
        ("prompts", "demonstrations", "prompt", 150, "look"),
        ("prompts", "demonstrations", "prompt", 3, "fine"),
        ("preferences", "preferences", "text", 101, "wrong"),
        ("preferences", "preferences", "text", 100, "look"),
        ("preferences", "corpus", "text", 150, "look"),
    ],
)
def test_leaks_that_spoil_a_measurement_are_reported(
    heldout: Collection, train: Collection, what: Any, exact: int, severity: str
) -> None:
    leak = Leak(
        heldout=heldout, train=train, what=what, rows=200, exact=exact, near=0, examples=(MATCH,)
    )
    found = report(heldout, inspected={"collections": (inspection(heldout),), "leaks": (leak,)})
    finding = only(found, "held-out")
    assert finding.severity == severity
    assert str(exact) in finding.text


def test_near_duplicates_count_against_the_training_rows() -> None:
    def found(rows: int) -> Finding:
        near = NearDuplicates(rows=rows, examples=(MATCH,))
        collections = (inspection("preferences", near_duplicates=near),)
        return only(report(inspected={"collections": collections}), "nearly repeat")

    assert found(39).severity == "fine"
    assert found(40).severity == "look"  # 5% of 800
    assert found(40).text == "preferences: 40 training rows (5%) nearly repeat another one"


def test_languages_that_differ_between_sides_and_collections_are_reported() -> None:
    english = Languages(texts=1000, shares={"en": 0.9, "und": 0.1})
    mixed = Languages(texts=1000, shares={"en": 0.6, "de": 0.4})
    sides = inspection("preferences", languages=english, heldout_languages=mixed)
    found = report(inspected={"collections": (sides,)})
    # Of the texts whose language is known, 100% against 60%.
    assert only(found, "held-out ones").text == (
        "preferences: en is the language of 100% of the training texts and of 60% of the held-out "
        "ones"
    )
    prompts = inspection("prompts", languages=mixed, heldout_languages=mixed)
    same = inspection("preferences", languages=english, heldout_languages=english)
    found = report(inspected={"collections": (same, prompts)})
    assert "of the preferences and of 60% of the prompts" in only(found, "language of").text
    few = Languages(texts=99, shares={"de": 1.0})
    found = report(inspected={"collections": (replace(same, heldout_languages=few),)})
    assert not [one for one in judge_data(found) if "language" in one.text]


def test_rows_that_a_limit_leaves_out_are_wrong_from_one_half_on() -> None:
    def found(**given: int) -> Finding:
        one = Truncation(**{"collection": "preferences", "limit": 64, "rows": 100, "cut": 0,
                            "dropped": 0, **given})  # fmt: skip
        return only(report(inspected={"truncations": (one,)}), "sampled")

    assert found(dropped=51).severity == "wrong"
    assert found(dropped=50).severity == "look"
    assert found(cut=90).severity == "look"
    assert (
        found(equal=1).text
        == "preferences: 1% of 100 sampled pairs are the same tokens on both sides"
    )


def test_few_held_out_pairs_are_reported() -> None:
    # 1 / sqrt(50) is 14%.
    assert "within 14%" in only(report(heldout=50), "an accuracy").text
    assert not [one for one in judge_data(report(heldout=100)) if "accuracy" in one.text]


def test_nothing_held_out_is_wrong() -> None:
    found = only(report(heldout=0), "held out of 800")
    assert found.severity == "wrong"
    assert "which have one prompt" in found.text
    assert "one text" in only(report("corpus", heldout=0), "held out of 800").text
    assert not [one for one in judge_data(report(heldout=1)) if one.severity == "wrong"]


def test_completions_that_are_marked_as_bad_say_nothing_against_a_file() -> None:
    dropped = {"marked as bad: no demonstration": 700}
    assert only(report("demonstrations", dropped), "rows").severity == "fine"


def test_findings_come_with_the_worst_first() -> None:
    found = judge_data(report(dropped={"x": 900}, mojibake=1, inspected={"pairs": PAIRS}))
    assert [one.severity for one in found] == ["wrong", "look", "look"]
