"""The loop, tiny but real: labels grow, the newest policy samples, what is finished is reused."""

from collections.abc import Sequence
from typing import Any

import pytest

import models.ppo.run
import tasks.comparison.rounds
from flows.cli.improve import _print_rounds
from flows.improve import ImproveForm, ImproveResult, improve
from flows.pipeline import PipelineResult
from flows.planning.plan import plan_of
from models.errors import ParameterError, WeakRewardError
from models.rows import prompt_key, read_json, read_rows
from tasks.results.store import StageRef
from tasks.run.planning import PlannedStage
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tests.flows.conftest import TINY

ROUND = ["feedback", "reward", "reward-quality", "ppo", "evaluate", "rounds"]


def planned(*settings: str, **fields: Any) -> list[PlannedStage]:
    form = ImproveForm.of("quickstart", (*TINY, *settings))
    return list(plan_of(improve, form.model_copy(update=fields)).stages)


def of(stages: Sequence[PlannedStage], name: str) -> list[PlannedStage]:
    return [one for one in stages if one.spec.name == name]


def inputs(stage: PlannedStage) -> dict[str, str]:
    return {role: ref.digest for role, ref in stage.spec.inputs.items()}


@pytest.mark.usefixtures("home")
def test_each_round_samples_from_the_policy_before_it_and_learns_from_all_labels() -> None:
    stages = planned()
    assert [one.spec.name for one in stages[4:]] == ROUND * 3
    sft = of(stages, "sft")[0].digest
    feedback, reward, ppo = (of(stages, name) for name in ("feedback", "reward", "ppo"))
    assert [inputs(one)["sft"] for one in feedback] == [sft, ppo[0].digest, ppo[1].digest]
    assert [inputs(one).get("earlier") for one in feedback] == [
        None, feedback[0].digest, feedback[1].digest,
    ]  # fmt: skip
    for number in range(3):
        assert inputs(reward[number])["preferences"] == feedback[number].digest
        assert inputs(reward[number])["sft"] == sft
        assert inputs(ppo[number])["actor"] == inputs(ppo[number])["reference"] == sft
        assert inputs(ppo[number])["reward_model"] == reward[number].digest


@pytest.mark.usefixtures("home")
def test_plan_counts_the_labels_of_all_rounds_so_far() -> None:
    plan = plan_of(improve, ImproveForm.of("quickstart", TINY))
    work = [
        cost.work.trained
        for one, cost in zip(plan.stages, plan.costs, strict=True)
        if one.spec.name == "reward" and cost.work is not None
    ]
    assert work == pytest.approx([work[0], 2 * work[0], 3 * work[0]])  # rounded otherwise


@pytest.mark.usefixtures("home")
def test_alignment_starts_from_the_newest_policy_where_the_form_says_so() -> None:
    stages = planned(rounds=2, start="newest")
    first, second = of(stages, "ppo")
    sft = of(stages, "sft")[0].digest
    assert inputs(first)["actor"] == sft
    assert inputs(second)["actor"] == inputs(second)["reference"] == first.digest
    assert [inputs(one)["reference"] for one in of(stages, "evaluate")] == [sft, sft]


@pytest.mark.usefixtures("home")
def test_loop_that_could_not_be_run_to_its_end_is_refused() -> None:
    with pytest.raises(ParameterError, match="annotator is none, so no round would add a label"):
        planned("feedback.annotator=none")
    with pytest.raises(ParameterError, match=r"set reward\.judge_share=0\.3"):
        plan_of(improve, ImproveForm.of("hh-rlhf", ["feedback.annotator=people"]))


def test_loop_that_failed_in_a_round_goes_on_from_there(
    first_run: PipelineResult, first_home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(models.ppo.run, "train_ppo", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            first_home.improve(2)
    result = first_home.improve(2)
    stages = result.stages
    assert [one.stage for one in stages] == [
        *(one.stage for one in first_run.stages[:4]),
        *ROUND * 2,
    ]
    # the first round is the pipeline's own run
    assert [one.digest for one in stages[:9]] == [one.digest for one in first_run.stages]
    assert [one.stage for one in stages if not one.reused] == ["ppo", "evaluate", "rounds"]
    _labels_grow(first_home, stages)
    _curves_are_on_the_parent(first_home, result, monkeypatch)
    assert all(one.reused for one in first_home.improve(2).stages)


def test_weak_reward_model_makes_no_policy_and_the_next_round_collects_more(
    first_run: PipelineResult, first_home: Any
) -> None:
    def published(stage: str) -> set[str]:
        found = (first_home.path / "store" / stage).glob("*/MANIFEST.json")
        return {one.parent.name for one in found}

    feedback, policies = published("feedback"), published("ppo")
    with pytest.raises(WeakRewardError, match="too weak for PPO"):
        first_home.improve(2, "feedback.preferences=50", "reward_quality.stop_if_weak=true")
    assert len(published("feedback") - feedback) == 2
    assert published("ppo") == policies


def test_rounds_are_printed_where_the_last_one_made_no_policy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[StageRef] = []
    monkeypatch.setattr(tasks.comparison.rounds, "read_rounds", lambda ref: read.append(ref) or [])
    record, quality = (
        StageRef(stage=stage, digest=digit * 64)
        for stage, digit in (("rounds", "1"), ("reward-quality", "2"))
    )
    done = ImproveResult(
        pipeline_run_id="", mlflow_run_id="m", name="loop", rounds=[], stages=[record, quality],
        seconds=1.0,
    )  # fmt: skip
    assert _print_rounds(done) == []
    assert read == [record]


def _labels_grow(home: Any, stages: Sequence[StageRef]) -> None:
    first, second = (home.folder(one) for one in stages if one.stage == "feedback")
    before, after = (read_rows(one / "preferences_train.jsonl") for one in (first, second))
    assert len(after) > len(before)
    assert all(row in after for row in before)
    asked = read_rows(first / "asked.jsonl")
    both = read_rows(second / "asked.jsonl")
    assert both[: len(asked)] == asked
    new = {prompt_key(row) for row in both[len(asked) :]}
    assert new
    assert not new & set(map(prompt_key, asked))


def _curves_are_on_the_parent(home: Any, result: ImproveResult, patch: pytest.MonkeyPatch) -> None:
    """The first round is rejected, so the SFT model samples again."""
    rows = read_json(home.folder(result.stages[-1]) / "rounds.json")
    assert [row["round"] for row in rows] == [1, 2]
    assert [row["accepted"] for row in rows] == [False, False]
    assert [row["sampled_by"] for row in rows] == [0, 0]
    assert [one.sampled_by for one in result.rounds] == [0, 0]
    home.set(patch)
    tracker = Tracker(load_settings())
    curve = tracker.curve(result.mlflow_run_id, "improve/judged_gain")
    assert curve == [(row["round"], row["gain"]["mean"]) for row in rows]
    assert "Round 1: rejected" in tracker.tags(result.mlflow_run_id)["mlflow.note.content"]
