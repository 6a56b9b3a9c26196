"""In which order rows are learned from.

Shared by pretraining, SFT and reward modelling. The order is made here, once, from a generator,
and handed to the trainers as it is: their own samplers draw from global random state, and a
length-grouped one is not restored exactly when a run resumes in its second epoch.
"""

from collections.abc import Sequence

import torch

WINDOW_BATCHES = 16


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
