"""In which order rows are learned from, and in pretraining which rows each step learns from.

Shared by pretraining, SFT and reward modelling. The order is made here, once, from a generator,
and handed to the trainers as it is: their own samplers draw from global random state, and a
length-grouped one is not restored exactly when a run resumes in its second epoch.

Pretraining plans its steps: a batch may start small and grow, as in GPT-3, and the sources of a
corpus may be mixed by weights, as in LLaMA. Without either a plan is the plain order, cut.

Source: Brown et al., Language Models are Few-Shot Learners (2020), section 2.3 and table 2.2;
Touvron et al., LLaMA (2023), section 2.1 and table 1.
"""

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from models.errors import DataError
from models.randomness import derive_seed
from models.training.config import PretrainConfig

WINDOW_BATCHES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which rows each optimiser step of a pretraining learns from.

    Attributes:
        steps: Row numbers of each step.
        lengths: Tokens of each row.
        sources: Of each row, where the sources are mixed; else empty.
    """

    steps: Sequence[Sequence[int]]
    lengths: Sequence[int]
    sources: Sequence[str] = ()

    @property
    def order(self) -> list[int]:
        """Row numbers in the order of training."""
        return [row for step in self.steps for row in step]

    @property
    def places(self) -> list[list[int]]:
        """Places in that order that each step takes."""
        ends = itertools.accumulate(map(len, self.steps))
        return [
            list(range(end - len(rows), end)) for rows, end in zip(self.steps, ends, strict=True)
        ]

    def tokens(self, step: int) -> Counter[str]:
        """Tokens of a step, counted from 1, by source; all under "" where none are mixed."""
        counted: Counter[str] = Counter()
        for row in self.steps[step - 1]:
            counted[self.sources[row] if self.sources else ""] += self.lengths[row]
        return counted

    def learned(self, skipped: Collection[int]) -> Counter[str]:
        """Tokens of all steps but those that were skipped, by source."""
        counted: Counter[str] = Counter()
        for step in range(1, len(self.steps) + 1):
            if step not in skipped:
                counted += self.tokens(step)
        return counted

    def epochs(self, skipped: Collection[int]) -> dict[str, float]:
        """How often the tokens of each source were learned from."""
        there: Counter[str] = Counter()
        for length, source in zip(self.lengths, self.sources, strict=bool(self.sources)):
            there[source] += length
        learned = self.learned(skipped)
        return {source: learned[source] / there[source] for source in there}

    def rows(self, skipped: Collection[int]) -> Iterator[dict[str, object]]:
        """What is recorded of each step: its number, rows, tokens, and whether it was skipped."""
        for step, rows in enumerate(self.steps, start=1):
            tokens = self.tokens(step)
            yield {
                "step": step,
                "rows": len(rows),
                "tokens": dict(tokens) if self.sources else tokens[""],
                "skipped": step in skipped,
            }


def plan_steps(
    lengths: Sequence[int], config: PretrainConfig, *, seed: int, sources: Sequence[str] = ()
) -> Plan:
    """Choose the rows of every step of a pretraining.

    Args:
        lengths: Tokens of each row.
        seed: Of the run.
        sources: Of each row; needed for a mixture, else left aside.

    Raises:
        DataError: A source of the mixture has no row.
    """
    sizes = batch_sizes(config)
    if not config.weights:
        order = training_order(
            lengths,
            total=sum(sizes),
            batch_size=config.batch_size,
            generator=torch.Generator().manual_seed(derive_seed(seed, "pretrain.order")),
        )
    else:
        order = mixed_order(sources, config.weights, total=sum(sizes), seed=seed)
    rows = iter(order)
    return Plan(
        steps=[[next(rows) for _ in range(size)] for size in sizes],
        lengths=lengths,
        sources=sources if config.weights else (),
    )


def batch_sizes(config: PretrainConfig) -> list[int]:
    """Rows of each step: with a ramp they grow linearly, step by step, then stay."""
    ramp = round(config.ramp_share * config.steps) if config.start_batch_size else 0
    grown = config.batch_size - config.start_batch_size
    rising = [config.start_batch_size + grown * step // ramp for step in range(ramp)]
    return rising + [config.batch_size] * (config.steps - ramp)


def mixed_order(
    sources: Sequence[str], weights: Mapping[str, float], *, total: int, seed: int
) -> list[int]:
    """Draw rows so that after each one the sources have their shares, to less than one row each.

    Each source's rows come in shuffled epochs of their own, drawn independently of the others'.

    Raises:
        DataError: A source has no row.
    """
    rows: dict[str, list[int]] = {name: [] for name in weights}
    for row, source in enumerate(sources):
        if source in rows:
            rows[source].append(row)
    for name in (name for name, own in rows.items() if not own):
        raise DataError(
            f"pretrain.mixture: source {name!r} fills no row of the corpus, which has rows of "
            f"{sorted(set(sources)) or 'no named source'}; name one of these or add texts"
        )
    epochs = {
        name: _epochs(own, torch.Generator().manual_seed(derive_seed(seed, f"pretrain.{name}")))
        for name, own in rows.items()
    }
    shares = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    drawn = dict.fromkeys(shares, 0)
    order = []
    for count in range(1, total + 1):
        name = max(shares, key=lambda one: shares[one] * count - drawn[one])
        drawn[name] += 1
        order.append(next(epochs[name]))
    return order


def _epochs(rows: list[int], generator: torch.Generator) -> Iterator[int]:
    while True:
        for place in torch.randperm(len(rows), generator=generator).tolist():
            yield rows[place]


def rows_to_learn(rows: int, epochs: float) -> int:
    """Count the rows that so many passes take, at least one."""
    return max(1, round(rows * epochs))


def training_order(
    lengths: Sequence[int], *, total: int, batch_size: int, generator: torch.Generator
) -> list[int]:
    """Order rows for training: shuffled epochs, batches of rows of like length.

    Rows are grouped by length within windows of 16 batches, so that little is padded, and the
    batches of a window are shuffled again. Only the very last batch may be smaller.

    Args:
        total: Rows to learn from, more than there are rows for several epochs.

    Returns:
        Row numbers; each run of `batch_size` is one batch.
    """
    drawn: list[int] = []
    while len(drawn) < total:
        wanted = total - len(drawn)
        drawn += torch.randperm(len(lengths), generator=generator)[:wanted].tolist()
    window = WINDOW_BATCHES * batch_size
    ordered: list[int] = []
    for start in range(0, total, window):
        rows = sorted(drawn[start : start + window], key=lambda row: lengths[row])
        batches = [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
        full = len(rows) // batch_size
        for batch in torch.randperm(full, generator=generator).tolist():
            ordered += batches[batch]
        ordered += [row for batch in batches[full:] for row in batch]
    return ordered
