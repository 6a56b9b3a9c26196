"""Cutting padded batches: every row once, rows of like length together, little padding."""

import random

import pytest
import torch

from models.objectives.batches import LEAST_TOKENS, LIKE, Batch, cut_batch, mask_of, pad_rows


def make_batch(rows: int, *, targets: bool) -> Batch:
    """Rows of 3 to 120 tokens, each token unlike any other; labels of lengths of their own."""
    drawn = random.Random(0)
    given = [
        {
            "input_ids": [1000 * row + place for place in range(1, drawn.randint(3, 120))],
            "labels": [-1000 * row - place for place in range(1, drawn.randint(3, 120))],
        }
        for row in range(1, rows + 1)
    ]
    batch = {
        "input_ids": pad_rows(given, "input_ids", 0),
        "attention_mask": mask_of(given, "input_ids"),
        "weight": torch.arange(rows),
    }
    if targets:
        batch["labels"] = pad_rows(given, "labels", 0)
        batch["decoder_attention_mask"] = mask_of(given, "labels")
    return batch


def rows_of(batch: Batch) -> dict[int, tuple[list[int], ...]]:
    columns = [name for name in ("input_ids", "labels") if name in batch]
    return {
        int(weight): tuple(batch[name][row][batch[name][row] != 0].tolist() for name in columns)
        for row, weight in enumerate(batch["weight"])
    }


@pytest.mark.parametrize("targets", [False, True])
@pytest.mark.parametrize("most", [64, 700, 16_384])
def test_every_row_comes_once_with_its_own_tokens(targets: bool, most: int) -> None:
    batch = make_batch(100, targets=targets)
    found: dict[int, tuple[list[int], ...]] = {}
    for part in cut_batch(batch, most):
        assert not found.keys() & rows_of(part).keys()
        found |= rows_of(part)
        tokens = sum(part[name].shape[1] for name in ("input_ids", "labels") if name in part)
        assert len(part["weight"]) * tokens <= most or len(part["weight"]) == 1
    assert found == rows_of(batch)


def test_rows_of_like_length_are_computed_together() -> None:
    batch = make_batch(300, targets=False)
    parts = list(cut_batch(batch, 16_384))
    for part in parts:
        lengths = part["attention_mask"].sum(1)
        assert lengths.max() == part["input_ids"].shape[1]
        before = int((lengths >= LIKE * lengths.max()).sum()) * int(lengths.max())
        assert bool((lengths >= LIKE * lengths.max()).all()) or before < LEAST_TOKENS
    tokens = int(batch["attention_mask"].sum())
    assert sum(part["input_ids"].numel() for part in parts) < 1.2 * tokens
    assert batch["input_ids"].numel() > 1.8 * tokens
