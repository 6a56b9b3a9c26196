"""Duplicates, held-out rows and overlaps of spooled rows."""

import itertools
from pathlib import Path

import pytest

from tasks.data.formats import Collection, Row
from tasks.data.spools.selection import (
    Selection,
    Sides,
    cross_overlaps,
    drop_duplicates,
    drop_overlap,
)
from tasks.data.spools.spool import Spool
from tasks.data.tally import BOTH_DIRECTIONS, DUPLICATE, HELD_OUT, FileTally, Tally


class Rows:
    """Makes selections of rows, each in a spool of its own."""

    def __init__(self, folder: Path) -> None:
        self._paths = (folder / str(number) for number in itertools.count())

    def all(self, collection: Collection, *files: list[Row]) -> Selection:
        spool = Spool(next(self._paths), collection)
        for number, rows in enumerate(files):
            spool.begin(FileTally(label=f"file {number}"))
            for place, row in enumerate(rows, 1):
                spool.add(place, row)
        return Selection.all_of(spool)


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return Rows(tmp_path)


def read(selection: Selection) -> list[Row]:
    return [row for _, row in selection.rows()]


def pair(prompt: str, chosen: str, rejected: str, **more: bool) -> Row:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def test_duplicates_keep_the_first_row_and_show_the_others(rows: Rows) -> None:
    tally = Tally()
    given = rows.all("corpus", [{"text": "a"}, {"text": "b"}], [{"text": "c"}, {"text": "a"}])
    assert read(drop_duplicates(given, tally)) == [{"text": "a"}, {"text": "b"}, {"text": "c"}]
    assert tally.dropped == {DUPLICATE: 1}
    (example,) = tally.examples[DUPLICATE]
    assert (example.file, example.row, example.text) == ("file 1", 2, '{"text": "a"}')
    assert [file.dropped[DUPLICATE] for file, _ in given.spool.files()] == [0, 1]


def test_duplicates_of_demonstrations_are_equal_in_prompt_and_completion(rows: Rows) -> None:
    given: list[Row] = [{"prompt": "p", "completion": "a"}, {"prompt": "p", "completion": "b"}]
    assert read(drop_duplicates(rows.all("demonstrations", given), Tally())) == given


def test_duplicates_drop_both_directions_of_a_pair(rows: Rows) -> None:
    tally = Tally()
    given = [
        pair("p", "a", "b"),
        pair("p", "b", "a"),  # tie with the first
        pair("p", "a", "b"),  # and once more
        pair("q", "b", "a"),  # another prompt: no tie
        pair("p", "a", "c"),
        pair("p", "a", "c"),
    ]
    kept = drop_duplicates(rows.all("preferences", given), tally)
    assert read(kept) == [pair("q", "b", "a"), pair("p", "a", "c")]
    # Six rows, two kept: the tie's two directions, and one more copy of each of two pairs.
    assert tally.dropped == {BOTH_DIRECTIONS: 2, DUPLICATE: 2}
    assert [example.row for example in tally.examples[BOTH_DIRECTIONS]] == [1, 2]


def test_a_turned_tie_is_the_same_tie_and_no_pair_in_both_directions(rows: Rows) -> None:
    tally = Tally()
    given = [
        pair("p", "a", "b", tie=True),
        pair("p", "b", "a", tie=True),
        pair("p", "a", "b", tie=False),
    ]
    kept = drop_duplicates(rows.all("preferences", given), tally)
    assert read(kept) == [given[0], given[2]]
    assert tally.dropped == {DUPLICATE: 1}


def test_overlap_is_by_content_and_for_prompts_by_prompt(rows: Rows) -> None:
    train: list[Row] = [{"prompt": "p", "completion": "a"}, {"prompt": "p", "completion": "b"}]
    tally = Tally()
    sides = Sides(
        train=rows.all("demonstrations", train), heldout=rows.all("demonstrations", train[1:])
    )
    assert read(drop_overlap(sides, tally).train) == train[:1]
    assert tally.dropped == {HELD_OUT: 1}
    asked = Sides(
        train=rows.all("prompts", [{"prompt": "p"}, {"prompt": "q"}]),
        heldout=rows.all("prompts", [{"prompt": "p"}]),
    )
    assert read(drop_overlap(asked, tally).train) == [{"prompt": "q"}]


def test_overlap_drops_the_turned_pair(rows: Rows) -> None:
    sides = Sides(
        train=rows.all("preferences", [pair("p", "a", "b")]),
        heldout=rows.all("preferences", [pair("p", "b", "a")]),
    )
    assert read(drop_overlap(sides, Tally()).train) == []


def test_rows_taken_several_times_follow_epoch_by_epoch(rows: Rows) -> None:
    selection = rows.all("corpus", [{"text": text} for text in "abcd"])
    selection.times[:] = [0, 3, 1, 2]
    assert [row["text"] for row in read(selection)] == ["b", "c", "d", "b", "d", "b"]
    assert len(selection) == 6


def test_cross_overlaps_count_heldout_rows_met_elsewhere(rows: Rows) -> None:
    pairs = [pair("p1", "z", " c1"), pair("p2", " c2", "y"), pair("p9", "y", "z")]
    shown: list[Row] = [{"prompt": "p1", "completion": " c1"}, {"prompt": "p3", "completion": "x"}]
    asked: list[Row] = [{"prompt": "p1"}, {"prompt": "p3"}, {"prompt": "p9"}]
    given: dict[Collection, tuple[list[Row], list[Row]]] = {
        "corpus": ([{"text": "p2 c2"}], []),
        "demonstrations": (shown, []),
        "preferences": ([pair("p3", "a", "b")], pairs),
        "prompts": ([], asked),
    }
    datasets = {
        name: Sides(train=rows.all(name, train), heldout=rows.all(name, heldout))
        for name, (train, heldout) in given.items()
    }
    assert list(cross_overlaps(datasets, pairs).values()) == [
        2,  # p1 and p3 are prompts of demonstrations
        1,  # p3 is a prompt of pairs
        1,  # p1 + " c1" is a demonstration, though it is the rejected one
        1,  # "p2" + " c2" is a text
    ]
