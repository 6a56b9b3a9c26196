"""`quartet status` says of a run what it is called, how it ended, and what a person wrote of it."""

from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.states import Completed

from flows.operation.status import _disk_lines, _prefect_lines
from models.errors import DataError
from tasks.settings import load_settings


@flow(name="toy", flow_run_name="as typed", persist_result=False)
def toy(run: dict[str, Any]) -> Any:
    if run["fails"]:
        raise DataError("data.folder has no file")
    return Completed(name="Rejected", message="rejected: gold -0.1")


def test_status_weighs_the_home(home: Path) -> None:
    (home / "store" / "sft" / "a").mkdir(parents=True)
    (home / "store" / "sft" / "a" / "MANIFEST.json").write_bytes(b" " * 10_000_000)
    first, store, *_, last = _disk_lines(load_settings())
    assert first.startswith("Disk          1 published stages; ")
    assert store.strip() == "store: 0.01 GB, 0.01 GB of it from 30 days"
    assert last.strip().endswith("`quartet gc --dry-run`")


def test_status_shows_how_runs_ended_and_their_notes(prefect_server: str) -> None:
    toy({"fails": False, "note": "why\nnot"}, return_state=True)
    with pytest.raises(DataError):
        toy({"fails": True})
    failed, why, rejected, verdict, note = [
        line for line in _prefect_lines(prefect_server) if not line.startswith("Work pool")
    ][:5]
    assert failed.split()[:4] == ["Run", "as", "typed", "Failed"]
    assert why.split(maxsplit=1)[1].endswith("data.folder has no file")
    assert rejected.split()[:4] == ["Run", "as", "typed", "Rejected"]
    assert (verdict.strip(), note.strip()) == ("rejected: gold -0.1", "why not")
