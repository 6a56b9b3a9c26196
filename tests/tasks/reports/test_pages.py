"""Pages that views make of published numbers: the data's and a reward model's."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from tasks.data.formats import Row
from tasks.data.quality import Tally, report_collection
from tasks.data.report import PreparationReport
from tasks.data.split import Sides
from tasks.reports.data import data_page
from tasks.reports.reward import ranking_page
from tasks.reports.style import cell
from tasks.run.spec import Result


def result(folder: Path, **metrics: float) -> Result:
    return Result(folder=folder, metrics=metrics, parameters={}, inputs={})


def test_data_page_shows_counts_reasons_and_notes(tmp_path: Path) -> None:
    tally = Tally(
        labels=["a|b.csv"], read=7, dropped=Counter({"duplicate": 1, "empty prompt": 2}), cleaned=1
    )
    tally.placeholders = 2
    row: Row = {"prompt": "ab", "completion": "cde"}
    report = PreparationReport(
        source="folder",
        fingerprint="f00",
        conversational=False,
        collections=(
            report_collection("demonstrations", tally, Sides(train=[row] * 3, heldout=[row])),
        ),
        contrasts=5,
        overlaps={"held-out prompts also in training demonstrations": 3, "others": 0},
    )
    (tmp_path / "quality.json").write_text(json.dumps(asdict(report)), encoding="utf-8")
    page = data_page(result(tmp_path), tmp_path)
    for line in (
        "Source: folder. Prompts and completions are plain texts.",
        "| demonstrations | a\\|b.csv | 7 | 3 | 1 | 3 |",
        "| demonstrations | empty prompt | 2 |",
        "| demonstrations | completion | 3 | 3 | 3 |",
        "- 3 held-out prompts also in training demonstrations",
        "- 1 demonstrations rows freed of control characters",
        "- 2 demonstrations rows hold a {{placeholder}}",
        "- 5 contrasts: pairs that differ in one respect",
    ):
        assert line in page.markdown.splitlines()
    assert "others" not in page.markdown


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
