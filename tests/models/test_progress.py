"""Long loops say how far they are, short ones nothing."""

import logging

import pytest

from models import progress
from models.progress import Meter, told


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Meter, "_said", now[0])
    return now


def test_items_come_as_they_are_and_a_long_loop_says_how_far_it_is(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    seen = []
    for item in told(range(2000), "sampling", 2000, "completions"):
        seen.append(item)
        clock[0] += 0.01
    assert seen == list(range(2000))
    assert [record.getMessage() for record in caplog.records] == [
        "sampling: 500 of 2,000 completions, 100/s, 15 s left",
        "sampling: 1,000 of 2,000 completions, 100/s, 10 s left",
        "sampling: 1,500 of 2,000 completions, 100/s, 5 s left",
        "sampling: 2,000 of 2,000 completions, 100/s",
    ]


def test_short_loop_says_nothing(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    list(told(range(1000), "sampling"))
    assert caplog.text == ""


def test_many_loops_one_after_the_other_are_no_silence(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for number in range(6):
        for _ in told(range(3), f"file {number}"):
            clock[0] += 1
    assert [record.getMessage() for record in caplog.records] == [
        "file 1: 2, 1/s",
        "file 3: 2, 1/s",
        "file 5: 2, 1/s",
    ]


def test_what_stands_still_or_has_no_known_end_is_told_too(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    meter = Meter("reading", unit="MB")
    for done in (0.0, 2.5):
        clock[0] += 6
        meter.add(done)
    assert [record.getMessage() for record in caplog.records] == [
        "reading: 0 MB, 0/s",
        "reading: 2 MB, 0.208/s",
    ]


def test_loop_that_is_left_early_ends_the_source(clock: list[float]) -> None:
    ended = []

    def source() -> object:
        try:
            yield from range(9)
        finally:
            ended.append(True)

    given = source()
    for item in told(given, "sampling"):  # type: ignore[var-annotated, arg-type]
        if item == 3:
            break
    given.close()  # type: ignore[attr-defined]
    assert ended
