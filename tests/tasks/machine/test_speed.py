"""Speeds are measured once for a size and a machine, and found again."""

import json
from pathlib import Path

import pytest

from tasks.machine import speed
from tasks.settings import Settings


def test_speeds_are_measured_once_and_survive_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, device="cpu", threads=1)
    (tmp_path / "speed.json").write_text('{"old": 3.0}')
    sizes = {"layers": 1, "width": 16, "feed_forward": 32, "vocabulary": 50}
    monkeypatch.setattr("models.training.speed.SECONDS", 0.01)
    first = speed.measured_speeds(settings, **sizes)
    assert first.training > 0
    assert first.sampling > 0
    assert len(json.loads((tmp_path / "speed.json").read_text())) == 2
    assert speed.measured_speeds(settings, **sizes) == first  # times never repeat to the bit
    monkeypatch.setattr(speed.platform, "node", lambda: "another")
    assert speed.measured_speeds(settings, **sizes) != first
    (tmp_path / "speed.json").write_text("[1")
    assert speed.measured_speeds(settings, **sizes).training > 0
