"""What is done with finished runs and their models, started as the UI does, on real servers."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import mlflow
import pytest
from mlflow.entities import AssessmentSource, AssessmentSourceType
from mlflow.genai import review_queues
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.events import Event, RelatedResource, Resource

from flows.forms import StageForm
from flows.promotion import PromotionForm
from tasks.stages.evaluate_models import EvaluateModelsConfig
from tests.flows.operated import Operation, until

pytestmark = pytest.mark.slow

POLICY = "models:/quickstart-policy/1"
"""Rejected, so it is no challenger."""


def stage_form(tiny: tuple[str, ...]) -> dict[str, Any]:
    return StageForm.of("quickstart", tiny).model_dump(mode="json")


def test_compare_reports_on_two_runs(
    operation: Operation, finished: Any, tiny: tuple[str, ...]
) -> None:
    other = operation.start_pipeline(*tiny, "ppo.iterations=6")
    operation.wait(other, "Completed")
    names = [operation.run(run).name for run in (finished, other)]
    comparison = operation.start("compare/compare", runs=names)
    operation.wait(comparison, "Completed")
    (run,) = operation.mlflow.search_runs(
        [operation.mlflow.get_experiment_by_name("quartet").experiment_id],
        filter_string="tags.`quartet.kind` = 'comparison'",
    )
    listed = operation.mlflow.list_artifacts(run.info.run_id, "comparison")
    assert "comparison/report.html" in {file.path for file in listed}


def test_models_are_evaluated_side_by_side(
    operation: Operation, finished: Any, tiny: tuple[str, ...]
) -> None:
    config = EvaluateModelsConfig(
        prompts=8, samples_per_prompt=2, bootstrap_resamples=100, judges=["reward", "gold"]
    )
    run_id = operation.start(
        "evaluate-models/evaluate-models",
        models=["sft=quickstart-sft", f"ppo={POLICY}"],
        run=stage_form(tiny),
        judging=config.model_dump(mode="json"),
    )
    operation.wait(run_id, "Completed")
    metrics = operation.children(run_id)["evaluate-models"].data.metrics
    assert any("win_rate" in name for name in metrics), sorted(metrics)


def test_policy_that_people_like_no_better_is_not_promoted(
    operation: Operation, finished: Any, tiny: tuple[str, ...]
) -> None:
    form = PromotionForm.of("quickstart", tiny).model_dump(mode="json")
    form["promotion"] |= {"prompts": 30, "samples_per_prompt": 2, "bootstrap_resamples": 100}
    form["promotion"] |= {"judge": "people", "people_prompts": 30}
    run_id = operation.start("promote/promote", model=POLICY, run=form)
    operation.wait(run_id, "Suspended")
    until(lambda: operation.flow_process(run_id) is None, 15, "the end of the process")
    child = operation.children(run_id)["promotion"]
    stands = [operation.parent(run_id).info.status, child.info.status]
    assert stands == ["SCHEDULED", "SCHEDULED"]
    until(lambda: "Waiting" in task_states(operation, run_id), 30, "the state of the task run")
    vote_for_nobody(operation, operation.parent(run_id).data.tags["feedback.queue"])
    operation.wait(operation.start("feedback-watch/feedback-watch"), "Completed")
    said = operation.wait(run_id, "Rejected")
    assert said.startswith("rejected, people's vote +0.000 ")
    assert operation.children(run_id)["promotion"].info.run_id == child.info.run_id
    assert set(task_states(operation, run_id)) == {"Waiting", "Completed"}
    version = operation.mlflow.get_model_version("quickstart-policy", "1")
    assert version.tags["verdict.accepted"] == "false"
    assert version.tags["quartet.promotion"] == "rejected"
    assert version.tags["quartet.promotion.reasons"]
    aliases = operation.mlflow.get_registered_model("quickstart-policy").aliases
    assert not aliases


def task_states(operation: Operation, run_id: Any) -> list[str | None]:
    with operation.client() as client:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
        return [one.state_name for one in client.read_task_runs(flow_run_filter=wanted)]


def vote_for_nobody(operation: Operation, queue_id: str) -> None:
    mlflow.set_tracking_uri(operation.mlflow_uri)
    human = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="admin")
    for item in review_queues.list_review_queue_items(queue_id, max_results=500):
        mlflow.log_feedback(
            trace_id=item.item_id, name="Better of A and B", value="both are as good", source=human
        )
        review_queues.set_review_queue_item_status(
            queue_id, item_id=item.item_id, status="complete", completed_by="admin"
        )


NOTIFICATIONS = {
    "Notify when a run failed": ("Failed", "FAILED", "no rows; give some"),
    "Notify when a policy was accepted or promoted": ("Completed", "COMPLETED", "accepted, gold"),
    "Notify when a policy was rejected": ("Rejected", "COMPLETED", "rejected, gold +0.0"),
    "Notify when a run waits for an answer": ("Suspended", "PAUSED", ""),
}
"""By automation, the state in which a run sends it, and that state's message."""


def test_each_kind_of_notification_is_delivered_once_with_a_link(operation: Operation) -> None:
    with webhook() as (url, messages), operation.client() as client:
        block = client.read_block_document_by_name("quartet-notifications", "custom-webhook")
        filled = BlockDocumentUpdate(data={**block.data, "url": url}, merge_existing_data=False)
        client.update_block_document(block.id, filled)
        for name in (*NOTIFICATIONS, "Notify when PPO raised alarms"):
            (automation,) = client.read_automations_by_name(name)
            assert not automation.enabled
            client.resume_automation(automation.id)
        flow = client.read_flow_by_name("rlhf-pipeline")
        runs = {}
        for name, (state, kind, text) in NOTIFICATIONS.items():
            body = {"flow_id": str(flow.id), "name": f"toy {state}", "state": {"type": "PENDING"}}
            runs[name] = operation.post("flow_runs/", body)["id"]
            end = {"type": kind, "name": state, "message": text}
            operation.post(f"flow_runs/{runs[name]}/set_state", {"state": end, "force": True})
        done = {"type": "COMPLETED", "name": "Completed", "message": "not enough prompts"}
        quiet = operation.post("flow_runs/", {"flow_id": str(flow.id), "name": "toy quiet"})["id"]
        operation.post(f"flow_runs/{quiet}/set_state", {"state": done, "force": True})
        runs["alarm"] = next(iter(runs.values()))
        send_alarm(operation, runs["alarm"])
        until(lambda: len(messages) >= 5, 60, "five messages")
        time.sleep(3)  # for a second one of a kind to come
    ui = operation.api.removesuffix("/api")
    links = sorted(text.rpartition("\n")[2] for text in messages)
    assert links == sorted(f"{ui}/runs/flow-run/{run_id}" for run_id in runs.values())
    said = "\n".join(messages)
    for _, (state, _, text) in NOTIFICATIONS.items():
        assert f"toy {state}" in said
        assert text in said
    assert "toy Failed: PPO raised alarms\nkl_too_high" in said


def send_alarm(operation: Operation, run_id: str) -> None:
    """As a stage of a flow run emits it."""
    related = {"prefect.resource.id": f"prefect.flow-run.{run_id}"}
    event = Event(
        event="quartet.alarm",
        resource=Resource({"prefect.resource.id": "quartet.stage.ppo"}),
        related=[RelatedResource(related | {"prefect.resource.role": "flow-run"})],
        payload={"alarms": {"kl_too_high": 3}},
    )
    signed = ("admin", operation.password)
    httpx.post(f"{operation.api}/events", json=[event.model_dump(mode="json")], auth=signed)


@contextlib.contextmanager
def webhook() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback that takes messages as Slack does, and those that it got."""
    messages: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            messages.append(json.loads(body)["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", messages
    finally:
        server.shutdown()
        server.server_close()
