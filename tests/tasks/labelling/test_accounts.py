"""Raters with accounts of their own, on an MLflow server that asks for a password."""

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import AssessmentSource, AssessmentSourceType
from mlflow.genai import review_queues
from mlflow.server.auth.client import AuthServiceClient

from tasks.labelling.items import Item
from tasks.labelling.queue import Queue, fill_queue
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tests.tasks.tracking.mlflow_server import Server

CONFIG = """\
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{accounts}
admin_username = admin
auth_cache_ttl_seconds = 300
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


@pytest.mark.slow
def test_raters_review_what_is_theirs(
    home: Path, tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "auth.ini"
    config.write_text(CONFIG.format(accounts=tmp_path / "accounts.db"))
    shutil.copyfile(mlflow_template, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(config))
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", "password-of-admin")
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "secret")
    monkeypatch.setenv("QUARTET_RATERS", "ann,bob")
    item = Item.of("Why?", ["a", "b", "c"])
    assert item is not None

    def log_in(name: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", f"password-of-{name}")

    with Server(tmp_path, "--app-name", "basic-auth") as server:
        server.start()
        monkeypatch.setenv("QUARTET_TRACKING_URI", server.uri)
        mlflow.set_tracking_uri(server.uri)
        log_in("admin")
        tracker = Tracker(load_settings())
        run_id = tracker.start_run("run", parameters={}, tags={})
        pipeline = PipelineRun(name="run", preset="toy", seed=0, run_id=run_id)
        samples = StageRef(stage="feedback-samples", digest="ab" * 32)

        def look() -> Queue:
            log_in("admin")
            return fill_queue([item], samples, 1.0, pipeline, twice=1.0)

        accounts = AuthServiceClient(server.uri)
        for name in ("ann", "bob", "cyd"):
            accounts.create_user(name, f"password-of-{name}")
            accounts.grant_user_permission(name, "experiment", tracker.experiment_id, "EDIT")
        queue_ids = {one.rater: one.queue_id for one in look().queues}
        trace_id = look().traces[item.key].trace_id

        def review(name: str, queue_of: str) -> None:
            log_in(name)
            source = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id=name)
            mlflow.log_feedback(
                trace_id=trace_id, name="Quality of A", value="7 excellent", source=source
            )
            review_queues.set_review_queue_item_status(
                queue_ids[queue_of], item_id=trace_id, status="complete", completed_by=name
            )

        for name in ("bob", "cyd"):
            with pytest.raises(mlflow.MlflowException, match="403"):
                review(name, queue_of="ann")
        assert look().labels.rows == ()
        review("ann", queue_of="ann")
        review("bob", queue_of="bob")
        found = look()
        assert str(found.progress) == "2 of 2 items reviewed"
        assert {"ann", "bob"} <= {row["rater"] for row in found.labels.rows}
