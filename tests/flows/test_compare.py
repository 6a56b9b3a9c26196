"""The flow and the command: a report shown on the run's page, told in a line, refused in one."""

from pathlib import Path
from uuid import UUID

import pytest
import typer
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from flows.cli import evaluate
from flows.cli.evaluate import compare
from flows.compare import compare_flow
from models.errors import ParameterError
from tasks.settings import load_settings
from tasks.tracking.client import Tracker


@pytest.fixture
def runs(home: Path) -> list[str]:
    """Two runs that failed before their first stage."""
    tracker = Tracker(load_settings())
    ids = []
    for coef in ("0.1", "0.2"):
        parameters = {"ppo.kl_coef": coef}
        tags = {"quartet.kind": "pipeline"}
        ids.append(tracker.start_run(f"run-{coef}", parameters=parameters, tags=tags))
        tracker.finish(ids[-1], "FAILED")
    return ids


def test_compare_flow_shows_its_report(prefect_server: str, runs: list[str]) -> None:
    state = compare_flow(["run-0.1", runs[1][:8]], return_state=True)
    result = state.result()
    assert result.runs == runs
    assert (load_settings().root / "comparisons" / result.name / "report.html").is_file()
    with get_client(sync_client=True) as client:
        key = ArtifactFilter(key=ArtifactFilterKey(any_=["comparison"]))
        shown = [
            artifact
            for artifact in client.read_artifacts(artifact_filter=key)
            if artifact.flow_run_id == UUID(str(state.state_details.flow_run_id))
        ]
    assert len(shown) == 1
    assert "| ppo.kl_coef | 0.1 | 0.2 |" in str(shown[0].data)
    assert shown[0].description == "No winner: no run was evaluated."


def test_compare_flow_fails_on_a_name_that_no_run_has(prefect_server: str, runs: list[str]) -> None:
    with pytest.raises(ParameterError, match=r"near are run-0\.[12]"):
        compare_flow(["run-0.1", "run-0.3"])


def test_compare_command_writes_where_it_is_told_and_says_where(
    runs: list[str], tmp_path: Path
) -> None:
    app = typer.Typer()
    app.command("compare")(compare)
    out = tmp_path / "here"
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        done = CliRunner().invoke(app, [*runs, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("No winner: no run was evaluated.\n")
    assert str(out / "report.html") in done.stdout.replace("\n", "")
    assert (out / "report.html").is_file()


def test_compare_command_refuses_in_a_line_before_a_run_starts(
    runs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "flows_run_here", lambda *_: pytest.fail("a run starts"))
    for names, wanted in (([runs[0]], "got 1 run to compare"), (["run-0.1", "x"], "is called 'x'")):
        with pytest.raises(typer.Exit) as refused:
            compare(names)
        assert refused.value.exit_code == 2
        line = capsys.readouterr().err
        assert line.startswith("quartet: ")
        assert wanted in line
