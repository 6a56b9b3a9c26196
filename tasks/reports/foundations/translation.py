"""The page of a translation model: BLEU by length, translations, and what attention looked at."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.rows import read_json, read_rows
from tasks.reports.style import INK, cell, new_figure, save_png, style_axes, table
from tasks.run.spec import Page, Result

LABELS = {
    "all": "BLEU",
    "short": "BLEU, ≤ 10 words",
    "middle": "BLEU, 11–15 words",
    "long": "BLEU, > 15 words",
}
"""Of BLEU by the words of the source, as results name them."""

MOST_SHOWN = 8
TEXT = 240
"""Characters of a text in a table."""
WORD = 18
"""Characters of a word in the picture."""


def translation_page(result: Result, plots: Path) -> Page:
    """Show BLEU by length, some translations beside their references, and their alignments."""
    results = read_json(result.folder / "results.json")
    rows = read_rows(result.folder / "samples.jsonl")
    metrics = result.metrics
    lines = [
        f"## Held-out pairs: {len(rows)}",
        f"{metrics['translate/parameters']:,.0f} parameters, "
        f"{metrics['translate/tokens']:,.0f} tokens learned from, held-out loss "
        f"{metrics['translate/heldout_loss']:.3f} nats per token. "
        f"sacrebleu `{results['signature']}`; 95% bootstrap intervals over sentences.",
        _scores(results),
        table(
            ("source", "reference", "translation"),
            ([cell(row[name], TEXT) for name in ("source", "target", "translation")]
             for row in rows[:MOST_SHOWN]),
            text_columns=3,
        ),
    ]  # fmt: skip
    aligned = result.folder / "alignments.jsonl"
    pictures = []
    if aligned.exists():
        lines.append(
            "What each word of a translation (a row) looked at in the source (columns): the "
            "weights of attention, from 0 (white) to 1."
        )
        pictures = [plots / "alignment.png"]
        plot_alignments(read_rows(aligned), pictures[0])
    return Page(title="Translation", markdown="\n\n".join(lines) + "\n", pictures=pictures)


def plot_alignments(alignments: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw weights of attention as grids, two beside each other.

    Args:
        alignments: Each with `source` and `target`, words, and `weights`, (target, source).
    """
    columns = min(2, len(alignments))
    lines = -(-len(alignments) // columns)
    most = max(len(one["target"]) for one in alignments)
    figure = new_figure(5.6 * columns, (1.4 + 0.24 * most) * lines)
    for place, one in enumerate(alignments):
        axes = figure.add_subplot(lines, columns, place + 1)
        style_axes(axes, "", "source", "translation")
        axes.grid(False)
        shown = axes.imshow(np.array(one["weights"]), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for axis, side in ((axes.xaxis, "source"), (axes.yaxis, "target")):
            axis.set_ticks(range(len(one[side])), [_shown(word) for word in one[side]])
        axes.tick_params(labelsize=9, length=0)
        axes.tick_params(axis="x", rotation=60)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor", color=INK)
    bar = figure.colorbar(shown, ax=figure.axes, pad=0.02, shrink=0.6)
    bar.set_label("weight", fontsize=11, color=INK)
    bar.outline.set_visible(False)
    save_png(figure, path)


def _shown(word: str) -> str:
    return "".join(one if one.isprintable() else "·" for one in word[:WORD])


def _scores(results: Mapping[str, Any]) -> str:
    bleu = [
        (LABELS[name], results["rows"][name], *_ends(one, ".1f"))
        for name, one in results["bleu"].items()
    ]
    rouge = [
        (name.replace("rouge", "ROUGE-"), results["rows"]["all"], *_ends(one, ".3f"))
        for name, one in results["rouge"].items()
    ]
    return table(("score", "pairs", "value", "95% from", "to"), [*bleu, *rouge])


def _ends(interval: Mapping[str, float], shape: str) -> tuple[str, ...]:
    return tuple(format(interval[end], shape) for end in ("mean", "low", "high"))
