"""The stage of the verdict: its metrics by hand, and who decides what on tiny real models."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from models.errors import ModelError, ParameterError
from models.evaluation.result import EvaluationResult, Outcome, read_result
from models.language.config import SamplingConfig
from tasks.judging.config import EvaluationConfig
from tasks.results.store import MANIFEST, Manifest, StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import published_outcome, report_text
from tasks.settings import load_settings
from tasks.stages.evaluate import evaluate, final_metrics
from tasks.tracking.client import Tracker
from tests.models.evaluation.by_hand import PPO_IDS, SFT_IDS, compared, decided, make
from tests.tasks.judging.endpoint_server import Server
from tests.tasks.promotion_models import (
    DATA,
    JUDGE,
    PIPELINE,
    PRAISE,
    REWARD,
    SFT,
    Folders,
    make_folders,
    publish,
    publish_parents,
)

SAMPLING = SamplingConfig(max_completion_tokens=12)
CONFIG: dict[str, Any] = {
    "prompts": 32, "samples_per_prompt": 2, "bootstrap_resamples": 200, "min_eos_ratio": 0.01,
    "max_kl_to_reference": 1000.0, "min_distinct_2_ratio": 0.1, "min_length_ratio": 0.1,
    "max_length_ratio": 10.0,
}  # fmt: skip
"""Untrained models are far apart and seldom end; the gain is what these tests are about."""

# --- metrics by hand ----------------------------------------------------------------------------


def test_final_metrics_are_flat() -> None:
    metrics = final_metrics(compared())
    expected = {
        "final/accepted": 0.0,  # two prompts are too few
        "final/score_sft": 2.0,
        "final/score_ppo": 2.25,
        "final/gold_gain": 0.375,
        "final/gold_gain_low": 0.25,
        "final/gold_gain_high": 0.5,
        "final/kl_to_reference": 1.125,
        "final/length_ratio": 3 / 2.75,
        "final/eos_rate_ppo": 1.0,
        "final/distinct_2_ppo": 0.5,
        "final/good_pair_difference_ppo": 0.5,
        "final/refusal_gain": 0.5,
        "final/prompts": 2.0,
        "final/samples_per_prompt": 2.0,
        "final/independent_judge": 1.0,
        "final/win_rate": 0.8125,
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert math.isnan(metrics["final/refusal_gain_low"])  # the stage leaves these out
    assert not [name for name in metrics if "words" in name or "repetition" in name]


def test_final_metrics_of_a_held_out_judge_and_of_none() -> None:
    def both(sft: Any = None, ppo: Any = None, judge: str = "judge") -> EvaluationResult:
        return decided(
            make(SFT_IDS, [[0.0, 1.0], [2.0, 5.0]], judge=sft),
            make(PPO_IDS, [[2.0, 3.0], [3.0, 6.0]], judge=ppo),
            judge,
        )

    metrics = final_metrics(both([[0.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 3.0]]))
    expected = {
        "final/judge_score_sft": 0.5,
        "final/judge_score_ppo": 1.25,
        "final/judge_score_gain": 0.75,
        "final/judge_score_gain_low": 0.5,
        "final/judge_score_gain_high": 1.0,
        "final/independent_judge": 0.0,  # a relative of the reward model
        "final/overoptimisation": 0.0,
    }
    assert {name: metrics[name] for name in expected} == expected
    assert final_metrics(both([[1.0] * 2] * 2, [[0.0] * 2] * 2))["final/overoptimisation"] == 1.0
    alone = final_metrics(both(judge="reward"))
    assert alone["final/independent_judge"] == 0.0
    assert not {"final/gold_gain", "final/overoptimisation"} & set(alone)


# --- the stage ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A home folder with an SFT model, both reward models, and policies to be judged."""

    pipeline: PipelineRun
    folders: Folders

    def policy(self, folder: Path, digest: str, **metrics: float) -> StageRef:
        inputs = {"reference": SFT, "reward_model": REWARD}
        named = {name.replace("__", "/"): value for name, value in metrics.items()}
        return publish("ppo", digest * 64, folder, inputs=inputs, metrics=named)

    def judged(self, policy: StageRef, *, held_out: bool = True, **config: Any) -> StageRef:
        return evaluate.fn(
            EvaluationConfig.model_validate(CONFIG | config), SAMPLING, gold=False,
            pipeline=self.pipeline, data=StageRef(stage="prepare", digest=DATA),
            sft=StageRef(stage="sft", digest=SFT), reward=StageRef(stage="reward", digest=REWARD),
            ppo=policy, judge=StageRef(stage="judge", digest=JUDGE) if held_out else None,
        )  # fmt: skip

    def tag(self) -> str:
        return Tracker(load_settings()).tags(self.pipeline.run_id)["quartet.verdict"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return make_folders(tmp_path_factory.mktemp("models"))


@pytest.fixture
def world(folders: Folders, home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("QUARTET_DEVICE", "cpu")
    monkeypatch.setenv("QUARTET_THREADS", "1")
    publish_parents(folders)
    run_id = Tracker(load_settings()).start_run("toy", parameters={}, tags={})
    return World(pipeline=PIPELINE.model_copy(update={"run_id": run_id}), folders=folders)


def folder(ref: StageRef) -> Path:
    return Store(load_settings().store).folder(ref.stage, ref.digest)


def outcome(ref: StageRef) -> Outcome:
    return published_outcome(ref)[0]


def test_the_held_out_reward_model_accepts_and_everything_is_published(world: World) -> None:
    ref = world.judged(world.policy(world.folders.best, "b"))
    metrics = ref.metrics
    assert (metrics["final/accepted"], metrics["final/independent_judge"]) == (1.0, 0.0)
    difference = metrics["final/judge_score_ppo"] - metrics["final/judge_score_sft"]
    assert metrics["final/judge_score_gain"] == pytest.approx(difference)
    assert 0 < metrics["final/judge_score_gain_low"] < metrics["final/judge_score_gain_high"]
    assert metrics["final/overoptimisation"] == 0.0
    found, samples = published_outcome(ref)
    assert (found.accepted, found.word, found.judge) == (
        True, "accepted", "held-out reward model",
    )  # fmt: skip
    assert outcome(ref).independent is False  # a relative of the reward model
    assert len(samples) == 32
    assert all({"sft_judge_score", "ppo_judge_score"} <= row.keys() for row in samples)
    assert all(row["sft_judge_score"] != row["sft_score"] for row in samples)
    assert "| score (held-out reward model) |" in report_text(ref)
    assert world.tag() == "accepted"
    manifest = Manifest.model_validate_json((folder(ref) / MANIFEST).read_bytes())
    assert manifest.inputs["judge"] == JUDGE
    assert {one.name for one in folder(ref).iterdir()} == {
        "results.json", "samples.jsonl", "metrics.jsonl", MANIFEST,
    }  # fmt: skip


def test_without_a_judge_the_maximised_reward_model_decides(world: World) -> None:
    policy = world.policy(world.folders.best, "b")
    ref = world.judged(policy, held_out=False)
    assert ref.digest != world.judged(policy).digest
    assert ref.metrics["final/independent_judge"] == 0.0
    assert not [name for name in ref.metrics if "judge_score" in name]
    assert "sft_judge_score" not in published_outcome(ref)[1][0]
    for wanted in ("judge", "gold"):
        with pytest.raises(ParameterError, match=rf"{wanted} is to decide, .*judge_share"):
            world.judged(policy, held_out=False, judge=wanted)


def test_too_few_prompts_decide_nothing(world: World) -> None:
    ref = world.judged(world.policy(world.folders.best, "b"), prompts=29)
    found = outcome(ref)
    assert (found.accepted, found.word) == (False, "not enough prompts")
    assert found.reasons == ["Measured on 29 held-out prompts, fewer than the 30 needed."]
    assert ref.metrics["final/accepted"] == 0.0
    assert report_text(ref).startswith("**Verdict: not enough prompts**")
    assert world.tag() == "not enough prompts"


def test_alarms_in_training_reject(world: World) -> None:
    policy = world.policy(
        world.folders.best, "b", ppo__alarms__hacking=3.0, ppo__alarms__kl_high=0.0
    )
    ref = world.judged(policy)
    assert outcome(ref).reasons == ["Its training raised alarms: hacking in 3 iterations."]
    assert world.tag() == "rejected"
    calm = world.judged(world.policy(world.folders.best, "c"))
    assert outcome(calm).accepted


def test_vader_decides_where_it_is_asked(world: World) -> None:
    ref = world.judged(world.policy(world.folders.cheerful, "b"), judge="vader")
    found = outcome(ref)
    assert (found.accepted, found.judge, found.independent) == (
        True, "VADER sentiment judge", True,
    )  # fmt: skip
    assert ref.metrics["final/vader_score_gain_low"] > 0
    other = world.judged(world.policy(world.folders.best, "c"), judge="vader")
    assert not outcome(other).accepted  # what the held-out reward model likes is no praise


def test_endpoint_decides_where_it_is_asked(world: World, server: Server) -> None:
    def praise(text: str) -> int:
        return text.count(PRAISE)

    def answer(asked: dict[str, str]) -> str:
        difference = praise(asked["A"]) - praise(asked["B"])
        return "TIE" if not difference else "A" if difference > 0 else "B"

    server.answer = answer
    policy = world.policy(world.folders.cheerful, "b")
    endpoint = {"url": server.url, "model": "tiny"}
    ref = world.judged(policy, judge="endpoint", endpoint=endpoint)
    _, samples = published_outcome(ref)
    signs = [praise(row["ppo"]) - praise(row["sft"]) for row in samples]
    rate = sum((sign > 0) + 0.5 * (sign == 0) for sign in signs) / len(signs)
    assert ref.metrics["final/win_rate"] == pytest.approx(rate)
    _, verdict = read_result(folder(ref)).decided or (None, None)
    assert verdict is not None
    (gain,) = [check for check in verdict.checks if check.name == "judged_gain"]
    assert gain.numbers["mean"] == pytest.approx(rate - 0.5)
    assert (verdict.accepted, verdict.judge, verdict.prompts) == (True, "endpoint", 32)
    asked = len(server.requests)
    # How it is reached does not count; of few pairs nothing is sure.
    slow = world.judged(policy, judge="endpoint", endpoint=endpoint | {"concurrency": 1})
    assert slow.reused
    few = world.judged(policy, judge="endpoint", endpoint=endpoint | {"prompts": 8})
    assert outcome(few).word == "not enough prompts"
    assert len(server.requests) <= asked + 2 * 8


def test_another_tokenizer_is_refused_and_the_part_is_named(world: World) -> None:
    policy = world.policy(world.folders.stranger, "b")
    wanted = r"the sft .* another tokenizer than the ppo \(other added_tokens\)"
    with pytest.raises(ModelError, match=wanted):
        world.judged(policy)


def test_what_counts_is_the_decision_and_not_how_an_endpoint_is_reached(world: World) -> None:
    policy = world.policy(world.folders.best, "b")
    first = world.judged(policy)
    assert world.judged(policy, endpoint={"url": "http://elsewhere/v1"}).reused
    assert world.judged(policy, min_eos_ratio=0.02).digest != first.digest
    moved = replace(world, pipeline=world.pipeline.model_copy(update={"seed": 1}))
    assert moved.judged(policy).digest != first.digest
