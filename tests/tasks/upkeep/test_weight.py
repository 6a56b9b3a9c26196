"""What a home weighs: every byte, and what of it is new."""

import os
import time
from pathlib import Path

from tasks.settings import load_settings
from tasks.upkeep.weight import DAYS, Part, weigh


def _write(path: Path, size: int, days: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    changed = time.time() - days * 86_400
    os.utime(path, (changed, changed))


def test_every_part_that_is_there_is_weighed(home: Path) -> None:
    (home / "mlflow.db").unlink(missing_ok=True)
    assert weigh(load_settings()) == []
    _write(home / "store" / "sft" / "a" / "model" / "weights.bin", 1000, DAYS + 1)
    _write(home / "store" / "sft" / "b.partial" / "step.bin", 30)
    (home / "store" / "sft" / "link").symlink_to(home / "store" / "sft" / "a")
    _write(home / "prefect.db", 5)
    _write(home / "prefect.db-wal", 2)
    _write(home / "mlflow-artifacts" / "1" / "page.html", 7)
    assert weigh(load_settings()) == [
        Part(name="store", size=1030, newer=30),
        Part(name="MLflow's files", size=7, newer=7),
        Part(name="Prefect's database", size=7),
    ]
