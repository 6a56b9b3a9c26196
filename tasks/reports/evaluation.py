"""What an evaluation of models found: a record, its metrics, its JSON, and a report for people."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.statistics.intervals import Interval
from models.statistics.win_rates import WinRates
from tasks.judging.interface import Content
from tasks.judging.prompts import Asked
from tasks.run.reporting import table_cell

JUDGES = {
    "reward": "the reward model",
    "judge": "the second reward model, which training never saw",
    "gold": "the gold judge",
    "vader": "VADER, sentiment of English",
    "endpoint": "a language model behind an API",
}
SAID = {
    "reward_score": ("score, reward model", 3),
    "judge_score": ("score, second reward model", 3),
    "gold_score": ("gold score (0 to 1)", 3),
    "vader_score": ("sentiment (-1 to 1)", 3),
    "kl_to_reference": ("KL to reference (nats)", 2),
    "length": ("length (tokens)", 1),
    "words": ("length (words)", 1),
    "eos_rate": ("ends by itself (share)", 3),
    "repetition": ("repeated 4-grams (share)", 3),
    "distinct_2": ("distinct-2", 3),
    "unique_share": ("unique (share)", 3),
}
"""Columns of the table of what models said, in their order, with decimals."""
TEXTS = {
    "perplexity_texts": ("perplexity, texts", 2),
    "bits_per_byte_texts": ("bits per byte, texts", 3),
    "perplexity_demonstrations": ("perplexity, demonstrations", 2),
    "bits_per_byte_demonstrations": ("bits per byte, demonstrations", 3),
    "bleu": ("BLEU (0 to 100)", 1),
    "rouge1": ("ROUGE-1", 3),
    "rouge2": ("ROUGE-2", 3),
    "rougeL": ("ROUGE-L", 3),
}
"""Columns of the table of given texts: how models predict them, how near they come to them."""

COLUMNS = ("prompt", "reference", "sample")
"""Columns of the samples' rows beside those of the models, which bear the models' names."""

SHOWN_SAMPLES = 5
CELL = 160
"""Characters of a completion in the report's table; MLflow takes 8,000 in all."""
MOST_PAIRED = 6
"""With more models, MLflow gets each one's mean win rate only; results.json has every pair."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """What one judge said of all models.

    Attributes:
        rates: Win rates among the models.
        scores: Of each model, (prompts, samples); none of a pairwise judge.
        facts: What a pairwise judge's answers say about itself.
    """

    rates: WinRates
    scores: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """An evaluation of models.

    Attributes:
        asked: The prompts.
        samples_per_prompt: Completions of each model for each of them.
        texts: Completions of each model, a list for each prompt.
        measures: Of each model, by name.
        judged: By judge.
        reference: Name of the model to which the KL is measured; empty without one.
    """

    asked: Sequence[Asked]
    samples_per_prompt: int
    texts: Mapping[str, Sequence[Sequence[str]]]
    measures: Mapping[str, Mapping[str, Interval]]
    judged: Mapping[str, Judged]
    reference: str = ""

    def metrics(self) -> dict[str, float]:
        """Flatten it for MLflow: a group for each measure, and in it a number for each model."""
        flat: dict[str, float] = {"evaluation/prompts": float(len(self.asked))}
        for model, measured in self.measures.items():
            for name, interval in measured.items():
                flat |= _ends(name, metric_label(model), interval)
        for judge, judged in self.judged.items():
            for model in judged.rates.models:
                flat[f"{judge}_mean_win_rate/{metric_label(model)}"] = judged.rates.mean_of(model)
            if len(judged.rates.models) <= MOST_PAIRED:
                for row, column, interval in judged.rates.pairs():
                    label = f"{metric_label(row)} over {metric_label(column)}"
                    flat |= _ends(f"{judge}_win_rate", label, interval)
            flat |= {f"{judge}_answers/{name}": value for name, value in judged.facts.items()}
        return {name: value for name, value in flat.items() if math.isfinite(value)}

    def to_json(self) -> dict[str, Any]:
        """All numbers with all their digits; null where there is none."""
        return {
            "prompts": len(self.asked),
            "samples_per_prompt": self.samples_per_prompt,
            "reference": self.reference or None,
            "models": {
                model: {name: _plain(interval) for name, interval in measured.items()}
                for model, measured in self.measures.items()
            },
            "judges": {
                judge: {
                    "win_rates": [
                        {
                            "model": row,
                            "over": column,
                            **_plain(interval),
                            "prompts": judged.rates.prompts[row, column],
                        }
                        for row, column, interval in judged.rates.pairs()
                    ],
                    "answers": dict(judged.facts),
                }
                for judge, judged in self.judged.items()
            },
        }

    def sample_rows(self) -> list[dict[str, Any]]:
        """One row a prompt and sample, the models side by side."""
        return [
            {
                "prompt": _asked_text(asked.prompt),
                "reference": asked.references[0] if asked.references else "",
                "sample": sample,
                **{model: texts[index][sample] for model, texts in self.texts.items()},
                **{
                    f"{model} {judge}_score": float(scores[index, sample])
                    for judge, judged in self.judged.items()
                    for model, scores in judged.scores.items()
                },
            }
            for index, asked in enumerate(self.asked)
            for sample in range(self.samples_per_prompt)
        ]

    def to_markdown(self) -> str:
        """The report: one row a model, a matrix a judge, a few completions side by side."""
        parts = [self._table(SAID), self._table(TEXTS), self._legend()]
        for judge, judged in self.judged.items():
            if len(self.texts) > 1:
                parts.append(_matrix(judge, judged, len(self.asked)))
        parts.append(self._samples_table())
        return "\n\n".join(part for part in parts if part) + "\n"

    def _table(self, columns: Mapping[str, tuple[str, int]]) -> str:
        """One row a model; empty where nothing of it was measured."""
        there = {name for measured in self.measures.values() for name in measured}
        shown = {name: column for name, column in columns.items() if name in there}
        lines = [
            "| model | " + " | ".join(title for title, _ in shown.values()) + " |",
            "|---|" + "---:|" * len(shown),
        ]
        for model, measured in self.measures.items():
            cells = [_cell(measured.get(name), digits) for name, (_, digits) in shown.items()]
            lines.append(f"| {table_cell(model, CELL)} | " + " | ".join(cells) + " |")
        return "\n".join(lines) if shown else ""

    def _legend(self) -> str:
        kl = f" KL is to {self.reference}." if self.reference else ""
        return (
            f"Measured on {len(self.asked)} prompts, {self.samples_per_prompt} samples of each "
            "model a prompt, with equal luck for all models. In brackets: 95% intervals by a "
            "bootstrap that resamples prompts; numbers without brackets pool all samples. Lengths "
            f"in tokens are each model's own tokens.{kl}"
        )

    def _samples_table(self) -> str:
        lines = [
            "### Side by side",
            "",
            "| prompt | " + " | ".join(table_cell(model, CELL) for model in self.texts) + " |",
            "|---|" + "---|" * len(self.texts),
        ]
        step = max(1, len(self.asked) // SHOWN_SAMPLES)
        for index in list(range(0, len(self.asked), step))[:SHOWN_SAMPLES]:
            said = [texts[index][0] for texts in self.texts.values()]
            cells = [
                table_cell(text, CELL) for text in (_asked_text(self.asked[index].prompt), *said)
            ]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)


def metric_label(model: str) -> str:
    """A model's name in letters that MLflow takes in the name of a metric."""
    return re.sub(r"[^\w. -]+", "-", model).strip("-")


def _matrix(judge: str, judged: Judged, prompts: int) -> str:
    names = judged.rates.models
    lines = [
        f"### Win rates under {JUDGES[judge]}",
        "",
        "How often the model of the row is preferred to the model of the column, ties half; above "
        "0.5 the row is better.",
        "",
        "| | " + " | ".join(table_cell(name, CELL) for name in names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for row in names:
        cells = ["–" if row == one else _cell(judged.rates.of(row, one), 3) for one in names]
        lines.append(f"| {table_cell(row, CELL)} | " + " | ".join(cells) + " |")
    counts = sorted(set(judged.rates.prompts.values()))
    if counts and counts != [prompts]:
        shown = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        lines += ["", f"Judged on {shown} of the {prompts} prompts."]
    if judged.facts:
        lines += ["", *_about_answers(judged.facts)]
    return "\n".join(lines)


def _about_answers(facts: Mapping[str, float]) -> Iterator[str]:
    """How far a pairwise judge can be trusted, in sentences."""
    count = {name: f"{facts.get(name, 0):.0f}" for name in facts}
    yield (
        f"{count['pairs']} pairs of completions, {count['equal_pairs']} of them equal and so ties "
        f"without a question; the others were shown in both orders. {count['unreadable_answers']} "
        f"answers could not be read, which leaves {count['unreadable_pairs']} pairs out."
    )
    if "follows_position" in facts:
        share, low, high = (facts[f"follows_position{end}"] for end in ("", "_low", "_high"))
        yield (
            f"**Position bias:** in {share:.1%} [{low:.1%}, {high:.1%}] of the pairs the answer "
            f"followed the position, {facts['prefers_first']:.1%} the first and "
            f"{facts['prefers_second']:.1%} the second; these count as ties. The judge agreed with "
            f"itself in {facts['agrees_with_itself']:.1%}."
        )


def _ends(name: str, label: str, interval: Interval) -> dict[str, float]:
    ends = {"": interval.mean, "_low": interval.low, "_high": interval.high}
    return {f"{name}{end}/{label}": value for end, value in ends.items()}


def _plain(interval: Interval) -> dict[str, float | None]:
    ends = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {end: value if math.isfinite(value) else None for end, value in ends.items()}


def _cell(interval: Interval | None, digits: int) -> str:
    """Write a number with its interval, or a dash where there is none."""
    if interval is None or not math.isfinite(interval.mean):
        return "–"
    text = f"{interval.mean:.{digits}f}"
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return text
    return f"{text} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _asked_text(prompt: Content) -> str:
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]
