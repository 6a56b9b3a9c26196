"""The doctor finds what is wrong, says the remedy, and leaves nothing behind."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from flows.operation.doctor import Check, check_pins, check_schedule, diagnose, print_checks
from tasks.settings import Settings

REQUIREMENTS = ["fastapi<0.151,>=0.139", "sqlalchemy<2.1,>=2.0", 'pytest>=9; extra == "dev"']


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({"fastapi": "0.155.0", "sqlalchemy": "2.0.5"}, "stop every Prefect flow"),
        ({"fastapi": "0.140.0", "sqlalchemy": "2.1.0"}, "silently never creates a run"),
        ({"fastapi": "0.140.0"}, "missing"),
    ],
)
def test_pins_name_a_bad_version_with_what_it_does(versions: dict[str, str], words: str) -> None:
    def installed(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    (check,) = check_pins(REQUIREMENTS, installed)
    assert check.level == "fail"
    assert words in check.found
    assert "pip install" in check.remedy


def test_pins_are_held_where_nothing_is_wrong() -> None:
    versions = {"fastapi": "0.140.0", "sqlalchemy": "2.0.5"}
    (check,) = check_pins(REQUIREMENTS, versions.__getitem__)
    assert check.level == "ok"
    assert "2 packages" in check.found  # extras are nobody's need


def test_doctor_finds_what_is_damaged_left_half_written_or_too_much(home: Path) -> None:
    (home / "prefect.db").write_bytes(b"not a database" * 100)
    (home / "store" / "sft" / "abc.writing").mkdir(parents=True)
    (home / "runs").mkdir()
    (home / "runs" / "r.json").write_text("{}")
    settings = Settings(
        home=home, processes=4000, sharding="full", tensor_parallel=2,
        rendezvous="10.0.0.1:29500", nodes=2,
    )  # fmt: skip
    checks = {c.name: c for c in diagnose(settings, quick=True)}
    assert checks["processes"].level == "warn"
    assert "4000, full" in checks["processes"].found
    assert "2 hosts that meet at 10.0.0.1:29500" in checks["processes"].found
    assert "2 for each layer" in checks["processes"].found
    assert checks["prefect.db"].level == "fail"
    assert str(home / "prefect.db") in checks["prefect.db"].found
    assert checks["mlflow.db"].level == "ok"
    assert checks["store"].level == "warn"
    assert "abc.writing" in checks["store"].found
    assert checks["runs"].level == "warn"
    assert checks["Python"].level == checks["home folder"].level == "ok"
    assert "schedule" not in checks


def test_print_checks_gives_status_1_only_for_failures(capsys: pytest.CaptureFixture[str]) -> None:
    warn = Check(name="a", level="warn", found="b", remedy="do c")
    assert print_checks(iter([warn])) == 0
    assert print_checks(iter([Check(name="d", level="fail", found="e"), warn])) == 1
    assert "-> do c" in capsys.readouterr().out


def test_schedule_check_is_bounded_and_leaves_nothing_behind(prefect_server: str) -> None:
    """The harness's server runs no scheduler; with one it is tried in test_operate.py."""
    from prefect.client.orchestration import SyncPrefectClient

    check = check_schedule(prefect_server, seconds=2.0)
    assert check.level == "fail"
    assert "sqlalchemy" in check.remedy
    with SyncPrefectClient(prefect_server) as client:
        assert not [one for one in client.read_flows() if "quartet-doctor" in one.name]
        assert not [one for one in client.read_deployments() if "quartet-doctor" in one.name]
