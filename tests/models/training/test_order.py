"""The order of training."""

import pytest
import torch

from models.training.order import rows_to_learn, training_order


def _order(lengths: list[int], total: int, batch_size: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return training_order(lengths, total=total, batch_size=batch_size, generator=generator)


def test_order_takes_each_row_once_an_epoch() -> None:
    order = _order([1] * 10, total=25, batch_size=4)
    assert len(order) == 25
    # A window holds 16 batches of 4: all 25 rows, so epochs mix, but the counts are those of two
    # epochs and a half.
    counts = [order.count(row) for row in range(10)]
    assert sorted(counts) == [2] * 5 + [3] * 5


def test_order_puts_rows_of_like_length_into_a_batch() -> None:
    lengths = [5, 50] * 32
    order = _order(lengths, total=64, batch_size=8)
    batches = [order[at : at + 8] for at in range(0, 64, 8)]
    assert all(len({lengths[row] for row in batch}) == 1 for batch in batches)
    # Short and long batches alternate by chance, not by length.
    firsts = [lengths[batch[0]] for batch in batches]
    assert firsts not in (sorted(firsts), sorted(firsts, reverse=True))


def test_only_the_last_batch_is_smaller() -> None:
    lengths = list(range(1, 38))
    order = _order(lengths, total=37, batch_size=2)
    assert sorted(order) == list(range(37))
    # Windows of 32 rows: in each pair of the first window no row stands between the two.
    window = sorted(lengths[row] for row in order[:32])
    for at in range(0, 32, 2):
        first, second = lengths[order[at]], lengths[order[at + 1]]
        assert window.index(second) == window.index(first) + 1


def test_order_depends_on_the_generator_alone() -> None:
    assert _order([3, 1, 2] * 9, 27, 4, seed=1) == _order([3, 1, 2] * 9, 27, 4, seed=1)
    assert _order([3, 1, 2] * 9, 27, 4, seed=1) != _order([3, 1, 2] * 9, 27, 4, seed=2)


@pytest.mark.parametrize(("rows", "epochs", "wanted"), [(10, 1.0, 10), (10, 2.55, 26), (3, 0.1, 1)])
def test_rows_to_learn(rows: int, epochs: float, wanted: int) -> None:
    assert rows_to_learn(rows, epochs) == wanted
