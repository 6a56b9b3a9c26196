"""Rows of different lengths as padded batches, cut into micro-batches of rows of like length.

Short and long documents stand in one batch: padded to its longest row, most of it would be padding.
"""

from collections.abc import Iterator, Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

Row = dict[str, list[int]]
Batch = dict[str, torch.Tensor]

TARGETS = ("labels", "decoder_attention_mask")
"""Columns that are as long as the labels."""

LIKE = 0.75
"""Rows of a micro-batch are at least so long, as a share of its longest."""
LEAST_TOKENS = 512
"""Of a micro-batch, padding included, before shorter rows begin another: each is a call more."""


def pad_rows(rows: Sequence[Row], name: str, value: int) -> torch.Tensor:
    """Pad a column of rows on the right, (rows, longest)."""
    return pad_sequence([torch.tensor(row[name]) for row in rows], True, value)


def mask_of(rows: Sequence[Row], name: str) -> torch.Tensor:
    """Say which places of a padded column hold tokens, (rows, longest), 1 or 0."""
    return pad_sequence([torch.ones(len(row[name]), dtype=torch.long) for row in rows], True)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch."""
    return {name: tensor.to(device) for name, tensor in batch.items()}


def cut_batch(batch: Batch, most_tokens: int) -> Iterator[Batch]:
    """Cut a padded batch into micro-batches, the longest rows first, without needless padding.

    Args:
        batch: `attention_mask` says where the tokens of the columns (rows, seq) are; of `labels`,
            `decoder_attention_mask` does if there is one. Columns (rows,) are taken as they are.
        most_tokens: Of a micro-batch, padding included; a longer row stands alone.
    """
    tokens = batch["attention_mask"].sum(1)
    labels = batch.get("decoder_attention_mask", torch.zeros_like(tokens[:, None])).sum(1)
    order = (tokens + labels).argsort(descending=True, stable=True)
    lengths = torch.stack([tokens, labels], dim=1)[order].tolist()
    for part in _alike(lengths, most_tokens):
        rows = order[part]
        widths = [int(tokens[rows].max()), int(labels[rows].max())]
        yield {
            name: one[rows, : widths[name in TARGETS and "decoder_attention_mask" in batch]]
            if one.dim() > 1
            else one[rows]
            for name, one in batch.items()
        }


def _alike(lengths: Sequence[Sequence[int]], most_tokens: int) -> Iterator[slice]:
    """Cut rows, each of several lengths, that stand by the sum of these, the longest first."""
    start, widths = 0, list(lengths[0])
    for row, mine in enumerate(lengths):
        wider = [max(both) for both in zip(widths, mine, strict=True)]
        padded = sum(widths) * (row - start)
        unlike = sum(mine) < LIKE * sum(lengths[start]) and padded >= LEAST_TOKENS
        if row > start and (unlike or sum(wider) * (row - start + 1) > most_tokens):
            yield slice(start, row)
            start, wider = row, list(mine)
        widths = wider
    yield slice(start, len(lengths))
