"""The page of a pretrained model: its scale, what it learned from, numbers, and samples."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from models.rows import read_json, read_rows
from tasks.reports.style import cell, table
from tasks.reports.training import plot_stage_curves
from tasks.results.curves import read_history
from tasks.run.spec import Page, Result

SAMPLES, SPIKES = "samples.jsonl", "spikes.json"
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


SCALE = {
    "parameters": ("parameters", ",.0f"),
    "tokens": ("tokens learned from", ",.0f"),
    "tokens_per_parameter": ("tokens per parameter (Chinchilla: about 20)", ".3g"),
    "tokens_per_second": ("tokens per second", ",.0f"),
    "model_flops_utilisation": ("share of the device's matrix multiplication used", ".1%"),
    "bits_per_byte": ("held-out bits per byte", ".3f"),
    "perplexity": ("held-out perplexity", ".2f"),
}


def pretraining_page(result: Result, plots: Path) -> Page:
    """Show size, tokens and speed, what was mixed and skipped, held-out numbers, and samples."""
    metrics = {name.removeprefix("pretrain/"): one for name, one in result.metrics.items()}
    scale = [
        (words, f"{metrics[name]:{shown}}")
        for name, (words, shown) in SCALE.items()
        if name in metrics
    ]
    history, picture = read_history(result.folder), plots / "training.png"
    if history:
        plot_stage_curves("pretrain", history, picture)
    parts = (
        table(("pretraining", ""), scale),
        _sources(metrics),
        _spikes(result.folder / SPIKES),
        _restoring(metrics, result.folder / SAMPLES),
    )
    return Page(
        title="What was pretrained",
        markdown="\n\n".join(filter(None, parts)),
        pictures=[picture] if history else [],
    )


def _sources(metrics: Mapping[str, float]) -> str:
    """Tokens and epochs of each source, where sources were mixed."""
    rows = [
        (cell(source, TOKEN), f"{tokens:,.0f}", f"{tokens / metrics['tokens']:.1%}",
         f"{metrics[f'source_epochs/{source}']:.3g}")
        for name, tokens in metrics.items()
        if (source := name.removeprefix("source_tokens/")) != name
    ]  # fmt: skip
    return table(("source", "tokens", "share", "epochs"), rows) if rows else ""


def _spikes(path: Path) -> str:
    """Spikes of the loss from which the training recovered."""
    spikes = read_json(path) if path.exists() else []
    rows = [
        (one["step"], f"{one['loss']:.4g}", f"{one['median']:.4g}", one["resumed_from"],
         len(one["skipped"]))
        for one in spikes
    ]  # fmt: skip
    header = ("spike at step", "loss", "median before", "resumed from", "batches skipped")
    return table(header, rows, text_columns=0) if rows else ""


def _restoring(metrics: Mapping[str, float], path: Path) -> str:
    """Held-out numbers beside their baselines, and what a model that restores texts restores."""
    if not path.exists():
        return ""
    rows = [
        (words, f"{metrics[name]:.3f}", f"{baseline:.3f}")
        for name, (words, other) in MEASURES.items()
        if (baseline := metrics.get(other)) is not None
    ]
    samples = read_rows(path)[:SHOWN]
    answered = bool(samples) and "answers" in samples[0]
    return "\n\n".join(
        (
            table(("held out", "model", "baseline"), rows),
            "Baselines answer with the corpus's frequencies of tokens, its most frequent "
            "token, and the more frequent of both labels.",
            _answers(samples) if answered else _restored(samples),
        )
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
