"""Step metrics survive kills and bad disks: what can be read is read, and nothing else."""

from pathlib import Path

import pytest

from tasks.results.curves import append_history, read_history, repair_history

GOOD = b'{"step": 1, "metrics": {"loss": 2.0}}\n'

DAMAGED = [
    b'{"step": 2, "met',
    b"\0" * 40,
    b"\xff\xfe\xfd",
    b'{"step": 2}',
    b"[2]",
    b'"text"',
    b'{"step": "two", "metrics": {"loss": 1.0}}',
    b'{"step": 2, "metrics": {"loss": "small"}}',
    b'{"step": 2, "metrics": {"loss": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
]


@pytest.mark.parametrize("line", DAMAGED, ids=lambda line: repr(line[:24]))
def test_history_leaves_out_a_damaged_line(
    tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(GOOD + line)
    assert read_history(tmp_path) == {"loss": [(1, 2.0)]}
    repair_history(tmp_path)
    assert "1 damaged lines are left out" in caplog.text
    assert (tmp_path / "metrics.jsonl").read_bytes() == GOOD
    append_history(tmp_path, {"loss": float("inf")}, 2)
    assert read_history(tmp_path) == {"loss": [(1, 2.0), (2, float("inf"))]}


def test_history_that_is_whole_is_left_as_it_is(tmp_path: Path) -> None:
    repair_history(tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
    append_history(tmp_path, {"loss": 1}, 1)
    before = (tmp_path / "metrics.jsonl").stat()
    repair_history(tmp_path)
    assert (tmp_path / "metrics.jsonl").stat().st_ino == before.st_ino
