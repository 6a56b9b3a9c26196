"""The pictures of families of models."""

from pathlib import Path
from typing import Any

from tasks.reports.foundations.plots import plot_understanding


def test_understanding_names_what_any_panel_shows(tmp_path: Path, drawn: list[Any]) -> None:
    """Of similarity there is neither an auxiliary loss nor a most frequent answer."""
    similarity = {f"understand/correlation{end}": 0.5 for end in ("", "_low", "_high")}
    entailment = {f"understand/accuracy{end}": 0.5 for end in ("", "_low", "_high")}
    entailment["understand/majority"] = 0.4
    rows = [
        {"name": "gpt2", "variant": variant, "task": task, "metrics": metrics}
        for task, variant, metrics in (
            ("similarity", "", similarity),
            ("entailment", "", entailment),
            ("entailment", "auxiliary", entailment),
        )
    ]
    plot_understanding(rows, tmp_path / "plot.png")
    texts = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert texts == ["pretrained", "most frequent answer", "auxiliary"]
