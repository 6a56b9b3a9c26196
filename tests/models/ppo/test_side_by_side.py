"""Two pieces of work at once: both are done, threads are given back, errors come out in order."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from models.ppo.side_by_side import SideBySide

CPU = torch.device("cpu")


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
def test_both_run_at_once_with_half_of_the_threads_each() -> None:
    meeting = threading.Barrier(2, timeout=20)

    def work() -> tuple[int, int]:
        meeting.wait()  # alone, this would never end
        return threading.get_ident(), torch.get_num_threads()

    first, second = SideBySide(CPU).run(work, work)
    assert first[0] != second[0]
    assert first[1] == second[1] == 2
    assert torch.get_num_threads() == 4


def test_one_thread_does_one_after_the_other() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        side_by_side = SideBySide(CPU)
    finally:
        torch.set_num_threads(before)
    first, second = side_by_side.run(threading.get_ident, threading.get_ident)
    assert first == second


@pytest.mark.usefixtures("four_threads")
def test_an_error_waits_for_the_other_piece() -> None:
    done = []

    def fail(what: str) -> Callable[[], None]:
        def work() -> None:
            raise ValueError(what)

        return work

    side_by_side = SideBySide(CPU)
    with pytest.raises(ValueError, match="first"):
        side_by_side.run(fail("first"), lambda: done.append(1))
    with pytest.raises(ValueError, match="second"):
        side_by_side.run(lambda: done.append(2), fail("second"))
    with pytest.raises(ValueError, match="first"):
        side_by_side.run(fail("first"), fail("second"))
    assert sorted(done) == [1, 2]
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_side_by_side_is_exact_and_repeats_to_the_bit(
    make_trainer: Callable[..., Any], weights_of: Callable[[Any], Any], precision: str
) -> None:
    trainers = [make_trainer(precision=precision) for _ in range(2)]
    for _ in range(3):
        found = [trainer.step() for trainer in trainers]
        for name in ("policy/first_ratio_error", "policy/approx_kl", "value/loss"):
            assert found[0][name] == found[1][name]
        assert found[0]["policy/first_ratio_error"] <= 1e-6
    for role in ("actor", "critic"):
        one, other = (weights_of(getattr(trainer.networks, role)) for trainer in trainers)
        assert all(torch.equal(one[name], other[name]) for name in one)
