"""The second reward model, tiny but real: its preferences, seed, name, and word in evaluation."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError, ParameterError
from models.families.config import ArchitectureConfig
from models.language.config import SamplingConfig, TokenizerConfig
from models.language.scoring import read_score_moments
from models.preference_shares import PreferenceShare
from models.reward.config import RewardStageConfig
from models.rows import read_rows, write_rows
from models.runtime import TrainingRun
from tasks.judging.config import EvaluationConfig
from tasks.judging.evaluation import is_held_out
from tasks.registry.versions import find_version
from tasks.results.store import MANIFEST, Manifest, StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace
from tasks.settings import load_settings
from tasks.stages.evaluate import evaluate
from tasks.stages.reward import train_judge, train_reward_model
from tasks.tracking.client import Tracker

PIPELINE = PipelineRun(name="pipe", preset="toy", seed=0, run_id="")
SAMPLING = SamplingConfig(max_completion_tokens=8)
CONFIG = RewardStageConfig(
    batch_size=8, learning_rate=1e-2, moment_samples=16, checkpoint_steps=2, judge_share=0.5
)
WORDS = ["cat", "dog", "mat", "hill", "day", "sum", "home", "it"]
PAIRS = [
    {"prompt": f"{a} {b}", "chosen": f"the {a}", "rejected": f"a {b}", "margin": 0.25}
    for a in WORDS
    for b in WORDS
]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A home folder with data, an SFT model, and both reward models trained on halves of it."""

    data: StageRef
    sft: StageRef
    policy: StageRef
    reward: StageRef
    judge: StageRef

    def inputs(self) -> dict[str, StageRef]:
        return {"data": self.data, "preferences": self.data, "sft": self.sft}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("home")
    (folder / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TRACKING_URI", "EXPERIMENT", "DEVICE", "THREADS"):
            patch.delenv(f"QUARTET_{name}", raising=False)
        patch.setenv("QUARTET_HOME", str(folder))
        patch.setenv("QUARTET_DEVICE", "cpu")
        data = publish("prepare", make_data)
        sft = publish("sft", lambda out: make_model(out, seed=0))
        policy = publish("ppo", lambda out: make_model(out, seed=1))
        made: dict[str, Any] = {"data": data, "preferences": data, "sft": sft}
        yield World(
            data=data,
            sft=sft,
            policy=policy,
            reward=train_reward_model.fn(CONFIG, SAMPLING, pipeline=PIPELINE, **made),
            judge=train_judge.fn(CONFIG, SAMPLING, pipeline=PIPELINE, **made),
        )


def publish(stage: str, make: Any, **inputs: StageRef) -> StageRef:
    def learn(work: Workspace) -> dict[str, float]:
        make(work.out)
        return {}

    return run_stage(StageSpec(name=stage, module="models.rows", parameters={}, inputs=inputs),
                     PIPELINE, learn)  # fmt: skip


def make_data(out: Path) -> None:
    write_rows(out / "preferences_train.jsonl", PAIRS)
    write_rows(out / "preferences_heldout.jsonl", PAIRS[::3])
    for name in ("prompts_train", "prompts_heldout"):
        write_rows(out / f"{name}.jsonl", [{"prompt": row["prompt"]} for row in PAIRS[:6]])


def make_model(out: Path, *, seed: int) -> None:
    from models.families.networks import build_model
    from models.language.folders import load_tokenizer, save_model
    from models.language.tokenizer import train_tokenizer

    write_rows(out / "corpus.jsonl", [{"text": f"the cat sat on {w}"} for w in WORDS] * 5)
    train_tokenizer(
        corpus=out / "corpus.jsonl", config=TokenizerConfig(vocab_size=300), context=64,
        out=out / "tokenizer",
    )  # fmt: skip
    tokenizer = load_tokenizer(out / "tokenizer")
    architecture = ArchitectureConfig(layers=1, width=32, heads=2, context=64)
    save_model(build_model(architecture, tokenizer, seed=seed), tokenizer, out / "model")


def folder(ref: StageRef) -> Path:
    return Store(load_settings().store).folder(ref.stage, ref.digest)


def test_judge_is_a_complete_reward_model_of_its_own(world: World) -> None:
    from models.language.folders import load_reward_model

    assert (world.reward.stage, world.judge.stage) == ("reward", "judge")
    models = [folder(ref) / "model" for ref in (world.reward, world.judge)]
    weights = [(model / "model.safetensors").read_bytes() for model in models]
    assert weights[0] != weights[1]
    assert load_reward_model(models[1]).config.num_labels == 1
    assert read_score_moments(models[1]).samples == 16
    assert Manifest.model_validate_json((folder(world.judge) / MANIFEST).read_bytes()).inputs == {
        "sft": world.sft.digest,
        "preferences": world.data.digest,
        "heldout": world.data.digest,
    }


def test_reward_model_and_judge_learn_from_all_pairs_and_share_none(world: World) -> None:
    counts = world.reward.metrics["reward/pairs"], world.judge.metrics["judge/pairs"]
    dropped = sum(row["chosen"] == row["rejected"] for row in PAIRS)
    assert sum(counts) == len(PAIRS) - dropped
    assert min(counts) >= 16


def test_judge_reports_its_accuracy_under_its_own_name(world: World) -> None:
    metrics = world.judge.metrics
    assert 0.0 <= metrics["judge/accuracy_low"] <= metrics["judge/accuracy"] <= 1.0
    assert "judge/longer_wins_accuracy" in metrics
    assert not [name for name in metrics if name.startswith("reward/")]
    history = (folder(world.judge) / "metrics.jsonl").read_text()
    assert "judge/loss" in history
    assert "reward/" not in history


def test_judge_is_registered_by_its_role(world: World) -> None:
    found = find_version(Tracker(load_settings()), "models:/toy-judge@challenger")
    assert found.published == ("judge", world.judge.digest)


def test_judge_is_reused(world: World) -> None:
    again = train_judge.fn(CONFIG, SAMPLING, pipeline=PIPELINE, **world.inputs())
    assert again.reused
    assert again.digest == world.judge.digest


def test_judge_without_a_share_is_refused(world: World) -> None:
    none = CONFIG.model_copy(update={"judge_share": 0.0})
    with pytest.raises(ParameterError, match="judge_share is 0"):
        train_judge.fn(none, SAMPLING, pipeline=PIPELINE, **world.inputs())


def test_reward_model_learns_from_everything_without_a_judge(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = learned(monkeypatch)
    none = CONFIG.model_copy(update={"judge_share": 0.0})
    train_reward_model.fn(none, SAMPLING, pipeline=PIPELINE, **world.inputs())
    assert seen == [(PAIRS, 0)]


def test_sides_are_disjoint_keep_margins_and_have_seeds_of_their_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = learned(monkeypatch)
    config = CONFIG.model_copy(update={"judge_share": 0.4})
    for train in (train_reward_model, train_judge):
        train.fn(config, SAMPLING, pipeline=PIPELINE, **world.inputs())
    (rewarded, reward_seed), (judged, judge_seed) = seen
    assert not {row["prompt"] for row in rewarded} & {row["prompt"] for row in judged}
    assert sorted(map(json.dumps, rewarded + judged)) == sorted(map(json.dumps, PAIRS))
    assert reward_seed == 0  # as it was before there were judges
    assert judge_seed != 0


def learned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[dict[str, Any]], int]]:
    """Take the place of the training; collects the pairs and the seed that it would be given."""
    seen: list[tuple[list[dict[str, Any]], int]] = []

    def train(
        *, preferences: Path, share: PreferenceShare, run: TrainingRun, **_: object
    ) -> dict[str, float]:
        seen.append(([row for row in read_rows(preferences) if share.takes(row)], run.seed))
        run.out.mkdir()
        (run.out / "config.json").write_text("{}")
        names = ("accuracy", "accuracy_low", "accuracy_high", "longer_wins_accuracy")
        return {f"reward/{name}": 0.75 for name in names}

    monkeypatch.setattr("models.reward.training.train_reward_model", train)
    return seen


def test_share_that_leaves_a_side_too_few_pairs_is_refused_by_both(world: World) -> None:
    tiny = CONFIG.model_copy(update={"judge_share": 0.01})
    for train in (train_reward_model, train_judge):
        with pytest.raises(DataError, match=r"leaves the judge \d of the 64 training pairs"):
            train.fn(tiny, SAMPLING, pipeline=PIPELINE, **world.inputs())


def test_judge_that_learned_nothing_is_said_loudly(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def train(*, run: TrainingRun, **_: object) -> dict[str, float]:
        run.out.mkdir()
        names = ("accuracy", "accuracy_low", "accuracy_high", "longer_wins_accuracy")
        return {f"reward/{name}": 0.5 for name in names}

    monkeypatch.setattr("models.reward.training.train_reward_model", train)
    config = CONFIG.model_copy(update={"judge_share": 0.45})
    train_judge.fn(config, SAMPLING, pipeline=PIPELINE, **world.inputs())
    assert "THE JUDGE LEARNED NOTHING THAT SHOWS" in caplog.text


# --- who may judge ------------------------------------------------------------------------------


def judged(world: World, **changes: Any) -> StageRef:
    models = {"sft": world.sft, "reward": world.reward, "ppo": world.policy, "judge": world.judge}
    return evaluate.fn(
        EvaluationConfig(), SAMPLING, gold=False, pipeline=PIPELINE, data=world.data,
        **{**models, **changes},
    )  # fmt: skip


def test_evaluation_refuses_the_reward_model_as_its_own_judge(world: World) -> None:
    with pytest.raises(ParameterError, match="is the reward model itself"):
        judged(world, judge=world.reward)
    maximised = publish("ppo", lambda out: make_model(out, seed=1), reward_model=world.judge)
    with pytest.raises(ParameterError, match="is the reward model itself"):
        judged(world, ppo=maximised)


def test_evaluation_refuses_a_judge_of_another_split(world: World) -> None:
    other = PipelineRun(name="pipe", preset="toy", seed=1, run_id="")
    judge = train_judge.fn(CONFIG, SAMPLING, pipeline=other, **world.inputs())
    with pytest.raises(ParameterError, match=r"overlapping parts .* \(1, 0\.5\) and \(0, 0\.5\)"):
        judged(world, judge=judge)


def made(stage: str, *, share: float, seed: int = 3, preferences: str = "e" * 64) -> Manifest:
    return Manifest(
        stage=stage, digest="f" * 64, seed=seed, parameters={"reward": {"judge_share": share}},
        inputs={"preferences": preferences}, libraries={}, code="", run_id="", seconds=0.0,
        metrics={}, files={},
    )  # fmt: skip


@pytest.mark.parametrize(("judge", "reward"), [(0.3, 0.5), (0.5, 0.5), (0.5, 0.3)])
def test_held_out_is_what_the_split_really_keeps_apart(judge: float, reward: float) -> None:
    """Against the split itself, with a share of one's own on each side."""
    learned = filter(PreferenceShare(side="reward", judge_share=reward, seed=3).takes, PAIRS)
    judged = filter(PreferenceShare(side="judge", judge_share=judge, seed=3).takes, PAIRS)
    shared = {json.dumps(row) for row in learned} & {json.dumps(row) for row in judged}
    assert is_held_out(made("judge", share=judge), made("reward", share=reward)) is (not shared)


def test_held_out_is_not_believed_without_proof() -> None:
    reward = made("reward", share=0.5)
    assert is_held_out(made("judge", share=0.5), reward)
    for other in (
        made("reward", share=0.5),
        made("judge", share=0.0),
        made("judge", share=0.5, seed=4),
        made("judge", share=0.5, preferences="d" * 64),
    ):
        assert not is_held_out(other, reward)
