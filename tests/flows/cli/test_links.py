"""Closing lines link to the servers that run, or to those that `quartet up` starts."""

from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli.links import see_more
from tasks.settings import Settings
from tasks.tracking.client import Tracker

IDS = {"mlflow_run_id": "abc", "flow_run_id": "f9bd"}
API = "http://127.0.0.1:4399/api"


def test_links_are_those_of_servers_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tracker, "experiment_id", "7")
    settings = Settings(tracking_uri="http://127.0.0.1:5399/")
    with temporary_settings({PREFECT_API_URL: API}):
        assert list(see_more(settings, **IDS)) == [
            "See more:",
            "  MLflow   http://127.0.0.1:5399/#/experiments/7/runs/abc"
            "?workflowType=machine_learning",
            "  Prefect  http://127.0.0.1:4399/runs/flow-run/f9bd",
        ]


def test_links_are_those_of_quartet_up_where_no_server_stays(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.cli.links.started", [API])
    monkeypatch.setattr(Tracker, "experiment_id", "1")
    with temporary_settings({PREFECT_API_URL: API}):
        head, mlflow, prefect = see_more(Settings(home=home), **IDS)
    assert head.startswith(f"See more, after QUARTET_HOME={home}")
    assert head.endswith("quartet up:")
    assert "http://127.0.0.1:5000/#/experiments/1/runs/abc?" in mlflow
    assert prefect.endswith("http://127.0.0.1:4200/runs/flow-run/f9bd")
