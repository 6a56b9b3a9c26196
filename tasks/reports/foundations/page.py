"""The report on families of models: a table for each part, pictures, and which claims held."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.rows import read_json, read_rows
from models.statistics.intervals import Interval
from tasks.reports.foundations.plots import (
    metric_of,
    plot_bits_per_byte,
    plot_bleu_by_length,
    plot_understanding,
)
from tasks.reports.foundations.translation import plot_alignments
from tasks.reports.style import table
from tasks.run.spec import Page, Result

RESULTS = "results.json"

Rows = Sequence[Mapping[str, Any]]

TITLES = {
    "language": "Language models",
    "understanding": "Understanding",
    "translation": "Translation",
    "noise": "BART's noises, one by one",
    "in_context": "In-context learning",
    "selection": "Data selection",
}


def foundations_page(result: Result, plots: Path) -> Page:
    """All models of a run, and the claims that they check."""
    found = read_json(result.folder / RESULTS)
    models, claims = found["models"], found["claims"]
    parts: list[str] = []
    pictures: list[Path] = []
    for part, title in TITLES.items():
        rows = [row for row in models if row["part"] == part]
        if not rows:
            continue
        parts += [f"### {title}", _TABLES[part](rows)]
        checked = [claim for claim in claims if claim["part"] == part]
        if checked:
            parts.append(_claims(checked))
        if part in _PLOTS:
            name, draw = _PLOTS[part]
            draw(rows, plots / name)
            pictures.append(plots / name)
        aligned = result.inputs.get("rnnsearch", result.folder) / "alignments.jsonl"
        if part == "translation" and aligned.exists():
            plot_alignments(read_rows(aligned), plots / "alignment.png")
            pictures.append(plots / "alignment.png")
    held = sum(claim["verdict"] == "held" for claim in claims)
    return Page(
        title=f"{len(models)} models, {held} of {len(claims)} claims held",
        markdown="\n\n".join(parts),
        pictures=pictures,
        on_pipeline=True,
    )


def _language(rows: Rows) -> str:
    cells = [
        (
            row["name"],
            _number(_own(row, "parameters"), ",.0f"),
            _number(_own(row, "flops"), ".1e"),
            f"{row['seconds']:.0f}",
            _number(_own(row, "bits_per_byte"), ".3f"),
            _objective(row["metrics"]),
        )
        for row in rows
    ]
    header = ("model", "parameters", "FLOPs", "seconds", "bits per byte", "objective")
    note = (
        "Bits per byte are measured on the same held-out captions whatever the tokenizer; models "
        "that see both sides of a word have none."
    )
    return f"{table(header, cells, text_last=True)}\n\n{note}"


def _objective(metrics: Mapping[str, float]) -> str:
    """What a model that reads both ways learned, beside what could be had without learning."""
    shown = []
    for name, label, baseline in (
        ("masked_accuracy", "masked words", "masked_accuracy_unigram"),
        ("next_sentence_accuracy", "next sentence", "next_sentence_majority"),
        ("restored_accuracy", "restored words", "restored_accuracy_unigram"),
    ):
        if f"pretrain/{baseline}" in metrics:
            own, other = metrics[f"pretrain/{name}"], metrics[f"pretrain/{baseline}"]
            shown.append(f"{label} {own:.3f} (guessed {other:.3f})")
    return ", ".join(shown) or "next word"


def _understanding(rows: Rows) -> str:
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    kinds = dict.fromkeys((row["name"], row["variant"]) for row in rows)
    known = {(row["name"], row["variant"], row["task"]): row["metrics"] for row in rows}
    cells = [
        (
            name,
            variant or "pretrained",
            *(_accuracy(known.get((name, variant, task), {})) for task in tasks),
        )
        for name, variant in kinds
    ]
    for label, metric in (("most frequent answer", "majority"), ("bag of words", "baseline")):
        numbers = [
            next((row["metrics"].get(f"understand/{metric}", math.nan) for row in rows
                  if row["task"] == task), math.nan)
            for task in tasks
        ]  # fmt: skip
        if any(map(math.isfinite, numbers)):
            cells.append((label, "", *(_number(one, ".3f") for one in numbers)))
    note = "Accuracy with its 95% interval; similarity: Pearson's correlation."
    return f"{table(('model', 'weights', *tasks), cells, text_columns=2)}\n\n{note}"


def _accuracy(metrics: Mapping[str, float]) -> str:
    for name in ("accuracy", "correlation"):
        if f"understand/{name}" in metrics:
            own, low, high = (metrics.get(f"understand/{name}{end}", math.nan) for end in _ENDS)
            return f"{own:.3f} [{low:.3f}, {high:.3f}]"
    return "–"


_ENDS = ("", "_low", "_high")


def _translation(rows: Rows) -> str:
    cells = [
        (
            row["name"],
            row["variant"] or "–",
            _number(_own(row, "parameters"), ",.0f"),
            f"{row['seconds']:.0f}",
            " ".join(
                (
                    _number(_own(row, "bleu"), ".1f"),
                    f"[{_number(_own(row, 'bleu_low'), '.1f')}, "
                    f"{_number(_own(row, 'bleu_high'), '.1f')}]",
                )
            ),
            *(
                _number(_own(row, f"bleu_{length}"), ".1f")
                for length in ("short", "middle", "long")
            ),
        )
        for row in rows
    ]
    header = (
        "model", "weights", "parameters", "seconds", "BLEU [95%]", "≤ 10", "11–15", "> 15 words",
    )  # fmt: skip
    return table(header, cells, text_columns=2)


def _noise(rows: Rows) -> str:
    tuned = [row for row in rows if row["task"]]
    cells = [(row["name"], _accuracy(row["metrics"])) for row in tuned]
    return table(("pretrained with", "entailment after fine-tuning [95%]"), cells)


def _in_context(rows: Rows) -> str:
    cells = [
        (
            row["task"],
            *(_number(_own(row, f"accuracy_{shots}"), ".3f") for shots in ("zero", "one", "few")),
            _number(_own(row, "majority"), ".3f"),
        )
        for row in rows
    ]
    return table(("task", "no example", "one", "few", "most frequent answer"), cells)


def _selection(rows: Rows) -> str:
    counts = next(row["metrics"] for row in rows if row["name"] == "select")
    reasons = ", ".join(
        f"{name.removeprefix('select/dropped_for/').replace('_', ' ')} {value:,.0f}"
        for name, value in counts.items()
        if name.startswith("select/dropped_for/")
    )
    kept = f"Kept {counts['select/kept']:,.0f} of {counts['select/rows']:,.0f} texts."
    cells = [
        (row["name"], row["variant"] or "all", _number(_own(row, "bits_per_byte"), ".3f"))
        for row in rows
        if row["name"] != "select"
    ]
    compared = table(("model", "corpus", "bits per byte"), cells, text_columns=2)
    return f"{kept} {f'Dropped: {reasons}.' if reasons else ''}\n\n{compared}"


def _claims(claims: Rows) -> str:
    cells = [
        (
            claim["claim"],
            claim["source"],
            f"{claim['first']:.3f}",
            f"{claim['second']:.3f}",
            _difference(Interval(**claim["difference"])),
            claim["verdict"],
        )
        for claim in claims
    ]
    header = ("claim", "source", "first", "second", "difference as claimed", "here")
    return table(header, cells, text_columns=2, text_last=True)


def _difference(one: Interval) -> str:
    return str(one) if math.isfinite(one.low) else f"{one.mean:+.3f}"


def _own(row: Mapping[str, Any], name: str) -> float:
    return metric_of(row["metrics"], name)


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "–"


_TABLES = {
    "language": _language,
    "understanding": _understanding,
    "translation": _translation,
    "noise": _noise,
    "in_context": _in_context,
    "selection": _selection,
}
_PLOTS = {
    "language": ("bits-per-byte.png", plot_bits_per_byte),
    "understanding": ("understanding.png", plot_understanding),
    "translation": ("bleu-by-length.png", plot_bleu_by_length),
}
