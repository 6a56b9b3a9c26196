"""Quartet as its users have it: `quartet up`, real servers and worker, runs started by the API."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.schemas.actions import BlockDocumentUpdate, DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import PrefectHTTPStatusError

from flows.forms import PPOForm, RunForm, StageForm
from flows.improve import ImproveForm
from flows.operation.deployments import prefect_yaml
from flows.promotion import PromotionForm
from models.rows import last_text, read_rows
from tasks.results.store import Manifest
from tasks.run.spent import SPENT
from tasks.stages.evaluate_models import EvaluateModelsConfig
from tests.flows.browser import ROWS, browser
from tests.flows.notifications import send_alarm, webhook
from tests.flows.operated import IN_TWO, Operation, operated, until, weights
from tests.flows.reviewing import answer_queue, rate_all, vote_for_nobody

pytestmark = pytest.mark.slow

POLICY = "models:/quickstart-policy/1"
"""Rejected, so it is no challenger."""
NOTIFICATIONS = {
    "Notify when a run failed": ("Failed", "FAILED", "no rows; give some"),
    "Notify when a policy was accepted or promoted": ("Completed", "COMPLETED", "accepted, gold"),
    "Notify when a policy was rejected": ("Rejected", "COMPLETED", "rejected, gold +0.0"),
    "Notify when a run waits for an answer": ("Suspended", "PAUSED", ""),
}
"""By automation, the state in which a run sends it, and that state's message."""

LONG = ("pretrain.steps=1500", "pretrain.checkpoint_steps=500")
"""Pretraining that takes half a minute: time enough to disturb it."""

PEOPLE = ("feedback.annotator=people", "feedback.prompts=60", "feedback.answered_share=0.9")
PEOPLE += ("data.ties=half", "sampling.max_completion_tokens=32")


def test_all_deployments_are_there_with_their_schedules_paused(operation: Operation) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "prefect", "deployment", "ls"],
        env={**os.environ, "PREFECT_API_URL": operation.api, "COLUMNS": "200"},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    with operation.client() as client:
        deployments = client.read_deployments()
    assert {one.name for one in deployments} == {
        one["name"] for one in yaml.safe_load(prefect_yaml())["deployments"]
    }
    assert all(one.name in listed for one in deployments)
    schedules = [schedule for one in deployments for schedule in one.schedules]
    assert {type(one.schedule).__name__ for one in schedules} == {
        "CronSchedule",
        "IntervalSchedule",
        "RRuleSchedule",
    }
    assert not any(one.active for one in schedules)
    assert any(one.parameters for one in schedules), "a schedule with parameters of its own"


def test_form_is_refused_by_the_field_before_it_runs(operation: Operation) -> None:
    form = RunForm.of("quickstart").model_dump(mode="json")
    form["ppo"]["iterations"] = 0
    with pytest.raises(PrefectHTTPStatusError, match=r"run\.ppo\.iterations.*minimum of 1"):
        operation.start("rlhf-pipeline/quickstart", run=form)


def test_half_a_form_is_refused(operation: Operation) -> None:
    with pytest.raises(PrefectHTTPStatusError, match="required property"):
        operation.start("rlhf-pipeline/quickstart", run={"preset": "quickstart"})


def test_fields_that_do_not_fit_are_refused_when_the_run_starts(operation: Operation) -> None:
    run_id = operation.start_pipeline("pretrain.block_tokens=4096")
    message = operation.wait(run_id, "Failed")
    assert "pretrain.block_tokens 4096 exceeds model.context 64" in message
    assert "choose at most 64" in message


def test_pipeline_reads_like_the_story(operation: Operation, finished: Any) -> None:
    run = operation.run(finished)
    assert re.fullmatch(rf"it4-ro16-tok12\+\d+ quickstart #{str(finished)[:4]}", run.name)
    stages = ["prepare", "tokenizer", "pretrain", "sft", "feedback", "reward", "reward-quality"]
    stages += ["ppo", "evaluate"]
    with operation.client() as client:
        tasks = client.read_task_runs(
            flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [finished]}})
        )
        wanted = {"artifacts": {"flow_run_id": {"any_": [str(finished)]}}}
        artifacts = sorted(one["key"] for one in operation.post("artifacts/filter", wanted))
    assert [one.name for one in sorted(tasks, key=lambda one: one.start_time)] == stages  # type: ignore[arg-type, return-value]
    pages = ("prepare", "pretrain", "reward", "reward-quality", "ppo")
    assert artifacts == sorted(["report", *(f"{stage}-report" for stage in pages)])
    children = operation.children(finished)
    assert set(children) == set(stages)
    assert {run.info.status for run in children.values()} == {"FINISHED"}


def test_models_are_registered(operation: Operation, finished: Any) -> None:
    names = {one.name for one in operation.mlflow.search_registered_models()}
    assert {f"quickstart-{role}" for role in ("base", "sft", "reward", "policy")} <= names


def test_run_that_does_nothing_new_says_so(
    operation: Operation, finished: Any, tiny: tuple[str, ...]
) -> None:
    run_id = operation.start_pipeline(*tiny)
    operation.wait(run_id, "Completed")
    operation.wait_for_log(run_id, "nothing new: all 9 stages were reused", 30)


def test_ppo_again_from_registered_models_is_evaluated_by_the_automation(
    operation: Operation, finished: Any, tiny: tuple[str, ...]
) -> None:
    with operation.client() as client:
        (automation,) = client.read_automations_by_name("Evaluate a policy when it is registered")
        assert not automation.enabled, "an automation must wait until somebody wants it"
        client.resume_automation(automation.id)
        evaluation = client.read_deployment_by_name("evaluate/evaluate-policy").id
    form = PPOForm.of("quickstart", [*tiny, "ppo.kl_coef=0.5"]).model_dump(mode="json")
    run_id = operation.start(
        "ppo/ppo-again",
        sft="quickstart-sft",
        reward="models:/quickstart-reward/1",
        run=form,
    )
    operation.wait(run_id, "Completed")
    assert operation.children(run_id)["ppo"].data.params["ppo.kl_coef"] == "0.5"
    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[evaluation]))
    with operation.client() as client:
        until(lambda: bool(client.read_flow_runs(flow_run_filter=wanted)), 60, "the automation")
        client.pause_automation(automation.id)  # for the runs of other tests
        (run,) = client.read_flow_runs(flow_run_filter=wanted)
    assert run.parameters["policy"] == "models:/quickstart-policy/2"
    operation.wait(run.id, "Completed")


def test_wrong_model_is_refused_before_training(operation: Operation, finished: Any) -> None:
    form = StageForm.of("quickstart").model_dump(mode="json")
    run_id = operation.start("reward/reward-again", sft="models:/quickstart-reward/1", run=form)
    message = operation.wait(run_id, "Failed")
    assert "reward" in message
    assert "wanted" in message


def test_schedule_creates_a_run_that_runs(operation: Operation, tiny: tuple[str, ...]) -> None:
    form = StageForm.of("quickstart", tiny).model_dump(mode="json")
    with operation.client() as client:
        deployment = client.read_deployment_by_name("pretrain/pretrain").id
        schedule = DeploymentScheduleCreate(
            schedule=CronSchedule(cron="* * * * *"), active=True, parameters={"run": form}
        )
        (made,) = client.create_deployment_schedules(deployment, [schedule])
        wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))

        def done() -> bool:
            runs = client.read_flow_runs(flow_run_filter=wanted)
            states = [one.state for one in runs if one.auto_scheduled]
            return any(state is not None and state.is_completed() for state in states)

        try:
            until(done, 240, "a scheduled run")
        finally:
            client.delete_deployment_schedule(deployment, made.id)


def test_cancel_saves_leaves_no_process_and_the_retry_goes_on(
    operation: Operation, tiny: tuple[str, ...]
) -> None:
    run_id = operation.start_pretraining(*tiny, *LONG, "seed=1")
    operation.wait_for_log(run_id, "pretrain: step")
    assert operation.flow_process(run_id) is not None
    operation.cancel(run_id)
    until(lambda: operation.flow_process(run_id) is None, 15, "the end of the process")
    # The worker reports it a second time, which would overrule a retry in between.
    until(lambda: "successfully" in operation.wait(run_id, "Cancelled"), 60, "the worker's report")
    assert operation.parent(run_id).info.status == "KILLED"
    child = operation.children(run_id)["pretrain"]
    assert child.info.status == "KILLED"
    (partial,) = (operation.home / "store" / "pretrain").glob("*.partial")
    assert any(partial.glob("checkpoints/checkpoint-*/SEAL*"))
    begins = partial.name[:12] + ": starting"
    spent = (partial / SPENT).stat().st_mtime - operation.log_times(run_id, begins)[-1]

    operation.retry(run_id)
    operation.wait(run_id, "Completed")
    manifest = partial.with_suffix("") / "MANIFEST.json"
    spent += manifest.stat().st_mtime - operation.log_times(run_id, begins)[-1]
    children = operation.children(run_id)  # one a stage
    assert children["pretrain"].info.run_id == child.info.run_id
    cost = {stage: run.data.metrics["usage/seconds"] for stage, run in children.items()}
    assert cost["pretrain"] == pytest.approx(spent, rel=0.02)
    paid = [cost[one] for one, run in children.items() if "quartet.reused" not in run.data.tags]
    assert operation.parent(run_id).data.metrics["final/seconds"] == pytest.approx(sum(paid))


@pytest.mark.campaign
def test_cancel_of_two_processes_leaves_none_and_the_next_run_gives_the_same_policy(
    operation: Operation, finished: Any, tiny: tuple[str, ...]
) -> None:
    def start(kl_horizon: int) -> UUID:
        further = (*tiny, "ppo.iterations=12", "ppo.checkpoint_iterations=2")
        further += (f"ppo.kl_horizon={kl_horizon}",)  # of a controller that is off
        return operation.start_pipeline(*further, settings=IN_TWO)

    run_id = start(10_001)
    operation.wait_for_log(run_id, "ppo: step")
    assert len(operation.team()["rank"]) == 2
    operation.cancel(run_id)

    def all_ended() -> bool:  # other flows may run
        return set(operation.team()) <= {"flow"} and operation.flow_process(run_id) is None

    until(all_ended, 45, "the end of all processes")
    operation.wait(run_id, "Cancelled")
    (partial,) = (operation.home / "store" / "ppo").glob("*.partial")
    assert any(partial.glob("checkpoints/checkpoint-*/SEAL*"))
    runs, policies = (start(10_001), start(10_002)), []
    for run_id in runs:
        operation.wait(run_id, "Completed")
        digest = operation.children(run_id)["ppo"].data.tags["quartet.digest"]
        manifest = Manifest.read(operation.home / "store" / "ppo" / digest)
        policies.append(weights(manifest))
    assert operation.children(runs[0])["ppo"].data.tags["quartet.resumed"] == "true"
    assert policies[0] == policies[1], "with a cancel in between, and without"


@pytest.mark.campaign
def test_retry_after_sigkill_goes_on_with_the_same_runs(
    operation: Operation, tiny: tuple[str, ...]
) -> None:
    run_id = operation.start_pretraining(*tiny, *LONG, "seed=2")
    operation.wait_for_log(run_id, "pretrain: step")
    process = operation.flow_process(run_id)
    assert process is not None
    os.kill(process, signal.SIGKILL)
    operation.wait(run_id, "Crashed")
    before = operation.children(run_id)["pretrain"].info.run_id

    def goes_on() -> bool:
        """The worker reports the death a second time, which overrules a retry in between."""
        state = operation.run(run_id).state
        if state is not None and state.is_crashed():
            operation.retry(run_id)
        return state is not None and state.name in ("Running", "Completed")

    until(goes_on, 60, "the retry")
    operation.wait(run_id, "Completed")  # one MLflow parent: `children` insists on it
    child = operation.children(run_id)["pretrain"]
    assert child.info.run_id == before
    steps = [point.step for point in operation.mlflow.get_metric_history(before, "pretrain/loss")]
    assert sorted(set(steps)) == list(range(15, 1501, 15))


@pytest.mark.parametrize(("answer", "end"), [(True, "Completed"), (False, "Cancelled")])
def test_approval_suspends_and_the_answer_decides(
    operation: Operation, tiny: tuple[str, ...], answer: bool, end: str
) -> None:
    run_id = operation.start_pipeline(
        *tiny, f"ppo.iterations={4 + answer}", approval=True, called="Ann's choice"
    )
    operation.wait(run_id, "Suspended")
    until(lambda: operation.flow_process(run_id) is None, 15, "the end of the process")
    assert operation.parent(run_id).info.status == "SCHEDULED"
    answered = operation.post(
        f"flow_runs/{run_id}/resume",
        {"run_input": {"approve": answer, "your_name": "Ann", "note": "looked at it"}},
    )
    assert answered["status"] == "ACCEPT", answered
    operation.wait(run_id, end)
    tags = operation.parent(run_id).data.tags
    assert tags["approval.before_ppo"] == ("approved" if answer else "refused")
    assert tags["approval.before_ppo.by"] == "Ann"
    assert tags["approval.before_ppo.note"] == "looked at it"
    assert operation.run(run_id).name == operation.parent(run_id).info.run_name == "Ann's choice"
    assert ("ppo" in operation.children(run_id)) is answer


@pytest.fixture(scope="module")
def answered(operation: Operation, tiny: tuple[str, ...]) -> tuple[UUID, Counter[Any]]:
    """A run whose queue people have answered, and the pairs of their answers."""
    run_id = operation.start_pipeline(*tiny, *PEOPLE)
    operation.wait(run_id, "Suspended")
    until(lambda: operation.flow_process(run_id) is None, 15, "the end of the process")
    assert _watched(operation)
    pairs = answer_queue(operation, run_id, share=0.9, in_page=3, declined=1)
    _look(operation)
    operation.wait(run_id, "Completed")
    return run_id, pairs


def test_people_answer_in_a_queue_and_the_run_resumes_by_itself(
    operation: Operation, answered: tuple[UUID, Counter[Any]]
) -> None:
    run_id, wanted = answered
    children = operation.children(run_id)
    assert {"feedback-samples", "feedback", "reward", "ppo"} <= set(children)
    digest = children["feedback"].data.tags["quartet.digest"]
    folder = operation.home / "store" / "feedback" / digest
    rows = read_rows(folder / "preferences_train.jsonl")
    pairs = Counter(
        (*(last_text(row[name]) for name in ("prompt", "chosen", "rejected")), row["margin"])
        for row in rows
        if row["margin"] or row.get("tie")
    )
    assert pairs == wanted
    assert len(wanted) >= 18  # a pair for each item at least
    assert {row["rater"] for row in read_rows(folder / "labels.jsonl")} == {"admin"}

    def stops_looking() -> bool:
        _look(operation)
        return not _watched(operation)

    until(stops_looking, 120, "the end of all runs that might wait")


@pytest.mark.campaign
def test_the_next_round_asks_people_again(
    operation: Operation, tiny: tuple[str, ...], answered: tuple[UUID, Counter[Any]]
) -> None:
    """The first round's queue is answered already, the second has its own."""
    run_id, pairs = answered
    form = ImproveForm.of("quickstart", (*tiny, *PEOPLE)).model_copy(update={"rounds": 2})
    loop = operation.start("improve/improve", run=form.model_dump(mode="json"))
    operation.wait(loop, "Suspended")
    assert rate_all(operation, loop) != operation.parent(run_id).data.tags["feedback.queue"]
    _look(operation)
    operation.wait(loop, "Completed")
    parent = operation.parent(loop).info.run_id
    labels = operation.mlflow.get_metric_history(parent, "improve/labels")
    before, after = (point.value for point in sorted(labels, key=lambda one: one.step))
    assert before == len(pairs)
    assert after > before


def _watched(operation: Operation) -> bool:
    """Whether a schedule looks for answers."""
    with operation.client() as client:
        known = client.read_deployment_by_name("feedback-watch/feedback-watch")
    return any(one.active for one in known.schedules)


def _look(operation: Operation) -> None:
    """What the schedule does every five minutes."""
    operation.wait(operation.start("feedback-watch/feedback-watch"), "Completed")


def test_dead_servers_are_started_again_and_the_run_completes(
    operation: Operation, tiny: tuple[str, ...]
) -> None:
    run_id = operation.start_pretraining(*tiny, *LONG, "seed=3")
    operation.wait_for_log(run_id, "pretrain: step")
    ends = len(re.findall("; restarting\\.", operation.log.read_text()))
    for process in _servers(operation):
        os.kill(process, signal.SIGKILL)

    def both_again() -> bool:
        text = operation.log.read_text()
        return (
            len(re.findall("; restarting\\.", text)) >= ends + 2
            and text.count("up again") >= ends + 2
        )

    until(both_again, 120, "both servers")
    operation.wait(run_id, "Completed")
    child = operation.children(run_id)["pretrain"]
    points = operation.mlflow.get_metric_history(child.info.run_id, "pretrain/loss")
    assert sorted({point.step for point in points}) == list(range(15, 1501, 15))


def test_two_runs_of_one_digest_train_once(operation: Operation, tiny: tuple[str, ...]) -> None:
    runs = [operation.start_pretraining(*tiny, "seed=4") for _ in range(2)]
    for run_id in runs:
        operation.wait(run_id, "Completed")
    for stage in ("tokenizer", "pretrain"):
        stages = [operation.children(run_id)[stage] for run_id in runs]
        reused = [one.data.tags.get("quartet.reused", "false") for one in stages]
        assert sorted(reused) == ["false", "true"], stage


def test_pages_show_what_a_user_must_see(operation: Operation, finished: Any) -> None:
    ui = operation.api.removesuffix("/api")
    with operation.client() as client:
        deployment = client.read_deployment_by_name("rlhf-pipeline/quickstart").id
    wanted = {"flow_run_id": {"any_": [str(finished)]}, "key": {"any_": ["report"]}}
    (artifact,) = operation.post("artifacts/filter", {"artifacts": wanted})
    experiment = operation.parent(finished).info.experiment_id
    runs = operation.mlflow.search_runs(
        [experiment], filter_string="tags.`quartet.kind` = 'pipeline'", max_results=3
    )
    ids = ",".join(f'"{one.info.run_id}"' for one in runs)
    with browser() as tab:
        tab.open(ui)
        tab.wait_for("Login")
        tab.log_in_to_prefect(ui, operation.password)
        tab.open(f"{ui}/deployments/deployment/{deployment}/run")
        form = tab.wait_for("KL coefficient", "Iterations", "Ask before PPO")
        assert form.count("(Optional)") == 2  # name and note, which change no result
        tab.open(f"{ui}/runs/flow-run/{finished}")
        name = operation.run(finished).name
        verdict = "verdict: rejected, gold"
        tab.wait_for("Rejected", verdict, name, "Logs", "Artifacts", "Parameters")
        tab.open(f"{ui}/runs")
        tab.wait_for(name, "Rejected", verdict)  # the list of runs shows it too
        tab.open(f"{ui}/artifacts/artifact/{artifact['id']}")
        tab.wait_for("Verdict", "gold score", "data:image/png")
        tab.log_in_to_mlflow(operation.mlflow_uri, operation.password)
        tab.open(f'{operation.mlflow_uri}/#/compare-runs?runs=[{ids}]&experiments=["{experiment}"]')
        tab.wait_for(*(one.info.run_name for one in runs), "ppo.kl_coef", "final/gain")


def test_link_of_quartet_up_shows_which_policy_is_best(operation: Operation, finished: Any) -> None:
    name = operation.run(finished).name
    experiment = operation.parent(finished).info.experiment_id
    for other, gain in (("second", 0.05), ("best", 0.1)):  # beside what is not accepted
        tags = {"quartet.kind": "pipeline", "quartet.verdict": "accepted"}
        made = operation.mlflow.create_run(experiment, run_name=other, tags=tags).info.run_id
        numbers = {"gain": gain + 0.01, "accepted_gain_low": gain, "kl": 1.5, "length_ratio": 1.0}
        for key, value in numbers.items():
            operation.mlflow.log_metric(made, f"final/{key}", value)
        operation.mlflow.set_terminated(made)
    operation.mlflow.create_run(
        experiment, run_name="a promotion", tags={"quartet.kind": "promote"}
    )
    (link,) = re.findall(r"Compare them +(http\S+)", operation.log.read_text())
    with browser("--window-size=1700,1000") as tab:
        tab.log_in_to_mlflow(operation.mlflow_uri, operation.password)
        tab.open(link)
        page = tab.wait_for("second", "best", name, "Which policy is best?", seconds=60)
        assert "a promotion" not in page
        names, cells = tab.run(ROWS)
        assert names[:2] == ["best", "second"]
        assert name in names[2:]
        head = {one: cells[0][f"metrics.`final/{one}`"] for one in ("gain", "kl", "length_ratio")}
        assert head == {"gain": "0.11", "kl": "1.5", "length_ratio": "1"}
        assert cells[0]["tags.`quartet.verdict`"] == "accepted"
        mine = cells[names.index(name)]
        assert mine["tags.`quartet.verdict`"] == "rejected"
        assert "pretrain.steps=20" in mine["tags.`quartet.changed`"]


def test_compare_reports_on_two_runs(
    operation: Operation, finished: Any, tiny: tuple[str, ...]
) -> None:
    other = operation.start_pipeline(*tiny, "ppo.iterations=5")
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
        run=StageForm.of("quickstart", tiny).model_dump(mode="json"),
        judging=config.model_dump(mode="json"),
    )
    operation.wait(run_id, "Completed")
    metrics = operation.children(run_id)["evaluate-models"].data.metrics
    assert any("win_rate" in name for name in metrics), sorted(metrics)


@pytest.mark.campaign
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
    until(lambda: "Waiting" in operation.task_states(run_id), 30, "the state of the task run")
    vote_for_nobody(operation, operation.parent(run_id).data.tags["feedback.queue"])
    operation.wait(operation.start("feedback-watch/feedback-watch"), "Completed")
    said = operation.wait(run_id, "Rejected")
    assert said.startswith("rejected, people's vote +0.000 ")
    assert operation.children(run_id)["promotion"].info.run_id == child.info.run_id
    assert set(operation.task_states(run_id)) == {"Waiting", "Completed"}
    version = operation.mlflow.get_model_version("quickstart-policy", "1")
    assert version.tags["verdict.accepted"] == "false"
    assert version.tags["quartet.promotion"] == "rejected"
    assert version.tags["quartet.promotion.reasons"]
    aliases = operation.mlflow.get_registered_model("quickstart-policy").aliases
    assert not aliases


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


def test_everything_killed_is_set_right_by_the_next_up(
    operation: Operation, tiny: tuple[str, ...]
) -> None:
    """As when the machine loses its power: `up` dies, and with it servers, worker and run."""
    run_id = operation.start_pretraining(*tiny, *LONG, "seed=5")
    operation.wait_for_log(run_id, "pretrain: step")
    operation.process.kill()  # the last of these tests: nothing runs there any more
    until(lambda: operation.flow_process(run_id) is None, 90, "the end of the run")
    until(lambda: not _servers(operation), 30, "the end of the servers")
    with operated(operation.home) as second:
        text = second.log.read_text()
        assert re.search(r"run .* quickstart #\w+ was killed: .*set to Crashed", text), text
        second.wait(run_id, "Crashed")
        name = second.run(run_id).name
        second.retry(run_id)
        second.wait_for_log(run_id, "pretrain: done")
        assert second.run(run_id).name == name
        assert second.children(run_id)["pretrain"].data.tags["quartet.resumed"] == "true"


def _servers(operation: Operation) -> list[int]:
    """Process ids of both servers, without their guardians."""
    ports = [
        uri.rsplit(":", 1)[1].removesuffix("/api") for uri in (operation.api, operation.mlflow_uri)
    ]
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        serves = "server" in words and any(port in words for port in ports)
        if serves and not any("guardian" in word for word in words):
            found.append(int(entry.name))
    return found
