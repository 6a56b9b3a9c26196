"""Pages that views make of published numbers: the data's and a reward model's."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from models.rows import write_json
from tasks.data.inspection.records import (
    Agreement,
    CollectionInspection,
    ColumnLengths,
    Histogram,
    Inspection,
    Languages,
    Leak,
    Match,
    NearDuplicates,
    PairNumbers,
    Sizes,
    Truncation,
)
from tasks.data.report import PreparationReport
from tasks.data.tally import FileTally, Tally
from tasks.reports.data import data_page
from tasks.reports.reward import ranking_page
from tasks.reports.style import cell
from tasks.run.spec import Result


def result(folder: Path, **metrics: float) -> Result:
    return Result(folder=folder, metrics=metrics, parameters={}, inputs={})


def data_report(**inspected: Any) -> PreparationReport:
    tally = Tally(
        labels=["a|b.csv"], read=7, dropped=Counter({"duplicate": 1, "empty prompt": 2}), cleaned=1
    )
    tally.placeholders = 2
    file = FileTally(label="a|b.csv", read=7, kept=5, notes=["read as gb18030"])
    file.formats["alpaca"] = 7
    file.unread["id"] = 6
    tally.files.append(file)
    tally.show("empty prompt", file, 3, {"prompt": "", "completion": "an answer"})
    return PreparationReport(
        source="folder",
        fingerprint="f00",
        conversational=False,
        collections=(
            tally.report(
                "demonstrations",
                train=3,
                heldout=1,
                lengths={"prompt": [2] * 4, "completion": [3] * 4},
            ),
        ),
        contrasts=5,
        overlaps={"held-out prompts also in training demonstrations": 3, "others": 0},
        inspection=Inspection(**inspected),
    )


def data_text(folder: Path, report: PreparationReport) -> list[str]:
    write_json(folder / "quality.json", report)
    return data_page(result(folder), folder).markdown.splitlines()


def test_data_page_shows_counts_reasons_and_notes(tmp_path: Path) -> None:
    lines = data_text(tmp_path, data_report())
    for line in (
        "Source: folder. Prompts and completions are plain texts.",
        "| demonstrations | a\\|b.csv | 7 | 3 | 1 | 3 |",
        "| demonstrations | a\\|b.csv | alpaca (7) | 7 | 5 |",
        "- a\\|b.csv: read as gb18030",
        "- a\\|b.csv: columns that nobody reads: id (6 rows)",
        "| demonstrations | empty prompt | 2 | a\\|b.csv, row 3: "
        '\\{"prompt": "", "completion": "an answer"\\} |',
        "| demonstrations | completion | 3 | 3 | 3 |  |",
        "- 3 held-out prompts also in training demonstrations",
        "- 5 contrasts: pairs that differ in one respect",
    ):
        assert line in lines
    assert not any("others" in line for line in lines)


def test_data_page_begins_with_what_was_found(tmp_path: Path) -> None:
    lines = data_text(tmp_path, data_report())
    # Two of seven rows have an empty prompt: more than a tenth, less than half.
    headings = [line for line in lines if line.startswith("#")]
    assert headings[:3] == ["# Data", "## Worth a look", "## Rows"]
    assert any(line.startswith("- demonstrations: 29% of 7 rows are dropped") for line in lines)
    assert any("2 rows (40%): the text holds a \\{\\{placeholder\\}\\}" in line for line in lines)


def test_data_page_shows_what_the_inspection_found(tmp_path: Path) -> None:
    pairs = PairNumbers(
        pairs=304, longer=225, equal_length=4, prompts=100, most_pairs=7, ties=2,
        difference=Histogram(edges=(-3.0, -1.0, 1.0, 3.0), counts=(1, 2, 7)),
        margins={"1": 200, "0.5": 100}, first_difference=None,
    )  # fmt: skip
    match = Match(first="one | text", second="another", similarity=0.8123)
    column = ColumnLengths(
        histogram=Histogram(edges=(0.0, 2.0, 4.0), counts=(1, 3)),
        words=Sizes(median=1.0, p95=2.0, maximum=2, total=5),
        tokens=Sizes(median=4.0, p95=5.0, maximum=6, total=1234),
    )
    lines = data_text(
        tmp_path,
        data_report(
            collections=(
                CollectionInspection(
                    name="demonstrations", train=3, heldout=1, share=0.25,
                    columns={"completion": column},
                    near_duplicates=NearDuplicates(rows=1, examples=(match,)),
                    languages=Languages(texts=3, shares={"en": 2 / 3, "und": 1 / 3},
                                        scripts={"latin": 1 / 3}),
                ),
            ),
            leaks=(Leak(heldout="prompts", train="demonstrations", what="prompt", rows=40,
                        exact=3, near=1, examples=(match,)),),
            pairs=pairs,
            agreement=Agreement(pairs=30, judgements=61, equal=0.55),
            truncations=(Truncation(collection="demonstrations", limit=16, rows=10, cut=4,
                                    dropped=6),),
            unchecked=9,
        ),
    )  # fmt: skip
    for line in (
        "## Wrong: do not train on this",
        "- **demonstrations: 60% of 10 sampled rows have a completion of 16 tokens or more and are "
        "left out**. Raise the limit or the context, or shorten them.",
        "| demonstrations | completion | 3 | 3 | 3 | 1 | 4 | 5 | 6 | 1,234 |",
        "| demonstrations | 16 | 10 | 4 | 6 | 0 |",
        "| chosen is longer, of the pairs of unequal length | 75.0% [69.8%, 79.6%] |",
        "| two judgements of one pair agree | 55.0% (30 such pairs) |",
        "| pairs by margin | 1: 200, 0.5: 100 |",
        "| prompts | demonstrations | prompts | 40 | 3 | 1 | 10% | one \\| text |",
        "| demonstrations | 0.81 | one \\| text | another |",
        "| demonstrations | train | en 67%, unsure 33% (latin) | 3 |",
        "- 9 pairs of texts that are probably alike were too many to compare word by word: they "
        "are judged by their MinHash sketches",
    ):
        assert line in lines
    assert any("25.0% were looked at" in line for line in lines)
    assert (tmp_path / "lengths.png").stat().st_size > 10_000


def test_lengths_of_long_texts_can_be_read(tmp_path: Path, drawn: list[Any]) -> None:
    """From words to books: powers of ten side by side, none on its neighbour."""
    column = ColumnLengths(
        histogram=Histogram(edges=(1.0, 1e2, 1e4, 1e6, 1e8), counts=(9, 1, 1, 1)),
        words=Sizes(median=1.0, p95=2.0, maximum=2, total=5),
    )
    inspected = CollectionInspection(
        name="demonstrations", train=3, heldout=1, share=1.0, columns={"completion": column}
    )
    data_text(tmp_path, data_report(collections=(inspected,)))
    labels = [one for one in drawn[0].axes[0].get_xticklabels() if one.get_text()]
    extents = [label.get_window_extent() for label in labels]
    places = [(one.x0, one.x1) for one in extents if one.width]
    assert "1M" in [label.get_text() for label in labels]
    assert all(one[1] < two[0] for one, two in pairwise(places))


def test_ranking_page_shows_accuracy_by_margin_and_counts_ties(tmp_path: Path) -> None:
    numbers = {
        "reward/accuracy": 0.8,
        "reward/accuracy_low": 0.7,
        "reward/accuracy_high": 0.9,
        "reward/accuracy_margin_0.5": 0.75,
        "reward/accuracy_margin_1": 0.95,
        "reward/longer_wins_accuracy": 0.5,
        "reward/heldout_ties": 12.0,
    }
    lines = ranking_page(result(tmp_path, **numbers), tmp_path, group="reward").markdown.split("\n")
    assert lines[4:] == [
        "| pairs with margin 0.5 | 0.750 |",
        "| pairs with margin 1 | 0.950 |",
        "| ties: 12 | left out |",
    ]


def test_ranking_page_shows_accuracy_beside_its_baseline_and_by_respect(tmp_path: Path) -> None:
    numbers = {
        "judge/accuracy": 0.75,
        "judge/accuracy_low": 0.7,
        "judge/accuracy_high": 0.8,
        "judge/longer_wins_accuracy": 0.5,
        "judge/accuracy_tone": 0.9,
        "judge/pairs": 64.0,
    }
    page = ranking_page(result(tmp_path, **numbers), tmp_path, group="judge")
    assert page.markdown.splitlines() == [
        "| held-out pairs | accuracy |",
        "| --- | ---: |",
        "| all, [95% interval] | 0.750 [0.700, 0.800] |",
        "| baseline: the longer one wins | 0.500 |",
        "| pairs that differ in one respect: tone | 0.900 |",
    ]


def test_cell_fits_any_text_into_a_table() -> None:
    assert cell("a\n b | c", 20) == "a b \\| c"
    assert cell("abcdef", 4) == "abc…"
