"""The page of a model that was pretrained to restore text: numbers beside baselines, samples."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from models.rows import read_rows
from tasks.reports.style import cell, table
from tasks.reports.training import plot_stage_curves
from tasks.results.curves import read_history
from tasks.run.spec import Page, Result

SAMPLES = "samples.jsonl"
SHOWN = 8
CELL, TOKEN = 300, 40
"""Characters of a text and of a token."""

MEASURES = {
    "masked_accuracy": ("masked tokens restored", "masked_accuracy_unigram"),
    "masked_loss": ("loss per masked token (nats)", "masked_loss_unigram"),
    "next_sentence_accuracy": ("next sentences told from others", "next_sentence_majority"),
    "restored_accuracy": ("tokens restored", "restored_accuracy_unigram"),
    "heldout_loss": ("loss per token (nats)", "heldout_loss_unigram"),
}
"""Held-out metrics: in words, and the metric that is their baseline."""


def reconstruction_page(result: Result, plots: Path) -> Page:
    """Show held-out numbers beside their baselines, and what the model restores."""
    rows = [
        (words, f"{result.metrics[f'pretrain/{name}']:.3f}", f"{baseline:.3f}")
        for name, (words, other) in MEASURES.items()
        if (baseline := result.metrics.get(f"pretrain/{other}")) is not None
    ]
    samples = read_rows(result.folder / SAMPLES)[:SHOWN]
    answered = bool(samples) and "answers" in samples[0]
    history, picture = read_history(result.folder), plots / "training.png"
    if history:
        plot_stage_curves("pretrain", history, picture)
    return Page(
        title="What the pretrained model restores",
        markdown="\n\n".join(
            (
                table(("held out", "model", "baseline"), rows),
                "Baselines answer with the corpus's frequencies of tokens, its most frequent "
                "token, and the more frequent of both labels.",
                _answers(samples) if answered else _restored(samples),
            )
        ),
        pictures=[picture] if history else [],
    )


def _answers(samples: Iterable[Mapping[str, Any]]) -> str:
    """Masked rows, and for each hidden token the right one and the model's answers."""
    rows = [
        (
            cell(sample["text"], CELL),
            "; ".join(map(_answer, sample["answers"])),
            f"{'yes' if sample['is_next'] else 'no'} ({sample['is_next_probability']:.2f})",
        )
        for sample in samples
    ]
    header = ("what the model sees", "right: its answers (probability)", "next sentence (yes)")
    return table(header, rows, text_columns=len(header))


def _answer(answer: Mapping[str, Any]) -> str:
    top = ", ".join(
        f"{cell(one['token'], TOKEN)} ({one['probability']:.2f})" for one in answer["top"][:3]
    )
    return f"{cell(answer['right'], TOKEN)}: {top}"


def _restored(samples: Iterable[Mapping[str, Any]]) -> str:
    header = ("noisy", "document", "restored")
    rows = [tuple(cell(sample[name], CELL) for name in header) for sample in samples]
    return table(header, rows, text_columns=len(header))
