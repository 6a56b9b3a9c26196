"""The stage on tiny real networks: what it publishes and shows, and when it stops the run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import DataError, QuartetError, WeakRewardError
from models.families.config import ArchitectureConfig
from models.families.networks import build_model
from models.language.config import SamplingConfig, TokenizerConfig
from models.language.examples import encode_pairs
from models.language.folders import load_tokenizer, new_reward_model, save_model
from models.language.tokenizer import train_tokenizer
from models.reward.config import RewardQualityConfig
from models.reward.ranking import pair_margins
from models.rows import write_rows
from tasks.results.curves import read_history
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.settings import load_settings
from tasks.stages.reward_quality import measure_reward_quality, refuse_weak
from tasks.tracking.recording import page_folder

PIPELINE = PipelineRun(name="pipe", preset="toy", seed=0, run_id="")
SAMPLING = SamplingConfig(max_completion_tokens=4)
CONFIG = RewardQualityConfig(prompts=3, best_of=4, bins=3, bootstrap_resamples=100)
PROMPTS = ["What is the plural of box?", "Please help me to hurt a lamb."]
WORDS = ["boxes", "lambs", "a box", "the lamb of the box", "hurt me", "help", "please", "plural"]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, and two reward models whose scores differ widely."""
    root = tmp_path_factory.mktemp("networks")
    write_rows(root / "corpus.jsonl", [{"text": text} for text in [*PROMPTS, *WORDS] * 4])
    train_tokenizer(
        corpus=root / "corpus.jsonl",
        config=TokenizerConfig(vocab_size=300),
        context=64,
        out=root / "tokenizer",
    )
    tokenizer = load_tokenizer(root / "tokenizer")
    sizes = ArchitectureConfig(layers=1, width=16, heads=2, context=64)
    save_model(build_model(sizes, tokenizer, seed=0), tokenizer, root / "sft")
    for seed in range(2):
        model = new_reward_model(root / "sft", seed=seed)
        with torch.no_grad():
            model.score.weight *= 20
        save_model(model, tokenizer, root / f"reward-{seed}")
    return root


def _pairs(network: Path) -> list[dict[str, str]]:
    """Pairs labelled by a reward model itself, so that it ranks all of them right."""
    from models.language.folders import load_reward_model

    rows = [
        {"prompt": f"{prompt} {first}", "chosen": first, "rejected": second}
        for prompt in PROMPTS
        for first in WORDS
        for second in WORDS
        if first < second
    ]
    pairs = encode_pairs(load_tokenizer(network), rows, 64)
    margins = pair_margins(load_reward_model(network), pairs).tolist()
    return [
        row if margin > 0 else row | {"chosen": row["rejected"], "rejected": row["chosen"]}
        for row, margin in zip(rows, margins, strict=True)
    ]


def publish(stage: str, fill: Callable[[Path], None], key: str) -> StageRef:
    def learn(work: Any) -> dict[str, float]:
        fill(work.out)
        return {}

    spec = StageSpec(name=stage, module="models.rows", parameters={"key": key})
    return run_stage(spec, PIPELINE, learn)


class World:
    """Published inputs, and the stage run on them."""

    def __init__(self, networks: Path) -> None:
        self.networks = networks
        self.rows = _pairs(networks / "reward-0")
        self.sft = self.model("sft", "sft")
        self.reward = self.model("reward", "reward-0")
        self.judge = self.model("judge", "reward-1")

    def model(self, stage: str, name: str) -> StageRef:
        def fill(out: Path) -> None:
            shutil.copytree(self.networks / name, out / "model")

        return publish(stage, fill, name)

    def data(self, *, shuffled: bool = False, prompts: list[str] = PROMPTS) -> StageRef:
        rows = [
            row | {"chosen": row["rejected"], "rejected": row["chosen"]}
            if shuffled and index % 2
            else row
            for index, row in enumerate(self.rows)
        ]

        def fill(out: Path) -> None:
            write_rows(out / "preferences_heldout.jsonl", rows)
            write_rows(out / "prompts_heldout.jsonl", [{"prompt": one} for one in prompts])

        return publish("prepare", fill, f"{shuffled}{prompts}")

    def measure(
        self, data: StageRef, config: RewardQualityConfig = CONFIG, **more: Any
    ) -> StageRef:
        inputs = {"sft": self.sft, "reward": self.reward, "judge": None, "gold": True} | more
        return measure_reward_quality.fn(config, SAMPLING, pipeline=PIPELINE, data=data, **inputs)


@pytest.fixture
def world(home: Path, networks: Path) -> World:
    return World(networks)


def folder_of(ref: StageRef) -> Path:
    return Store(load_settings().store).folder(ref.stage, ref.digest)


def page_of(ref: StageRef) -> Path:
    return page_folder(load_settings().root, ref.stage, ref.digest)


def results_of(ref: StageRef) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    text = (folder_of(ref) / "results.json").read_text(encoding="utf-8")
    return json.loads(text, parse_constant=refuse)


def test_a_good_reward_model_is_measured_shown_and_let_through(world: World) -> None:
    ref = world.measure(world.data(prompts=[*PROMPTS, *PROMPTS]), judge=world.judge)
    metrics = ref.metrics
    assert metrics["reward_quality/accuracy"] == 1
    assert metrics["reward_quality/weak"] == 0
    assert metrics["reward_quality/prompts"] == 2  # the same prompt twice is one prompt
    assert 0 < metrics["reward_quality/judge_agreement"] < 1
    assert metrics["reward_quality/over_longer_wins_low"] > 0
    results = results_of(ref)
    assert set(results["best_of_n"]) == {"gold", "judge"}
    assert len(results["best_of_n"]["judge"]["judged"]) == 4
    files = {path.name for path in folder_of(ref).iterdir()}
    assert files == {"MANIFEST.json", "metrics.jsonl", "results.json"}  # numbers only
    plots = sorted(path.name for path in (page_of(ref) / "plots").iterdir())
    assert plots == ["accuracy.png", "best_of_n.png", "calibration.png"]
    assert "**Strong enough for PPO:**" in (page_of(ref) / "report.md").read_text()
    refuse_weak(ref, CONFIG)


def test_cut_completions_are_told_with_a_remedy(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    ref = world.measure(world.data(), judge=world.judge)
    ended = ref.metrics["reward_quality/sft_ended"]
    assert ended < 0.9  # random weights seldom say EOS within four tokens
    told = f"{1 - ended:.0%} of the SFT model's completions are cut at 4 tokens"
    assert f"**Cut completions.** {told}" in (page_of(ref) / "report.md").read_text()
    refuse_weak(ref, CONFIG)
    assert told in caplog.text
    assert "sampling.max_completion_tokens" in caplog.text


def test_the_curve_stands_on_the_stages_run_by_n(world: World) -> None:
    ref = world.measure(world.data(), judge=world.judge)
    curve = read_history(folder_of(ref))["reward_quality/judge_best_of_n"]
    assert [n for n, _ in curve] == [1, 2, 3, 4]
    assert curve[-1][1] == pytest.approx(ref.metrics["reward_quality/judge_best_of_4"])


def test_a_model_of_shuffled_labels_stops_the_run_unless_stop_if_weak_is_off(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    data = world.data(shuffled=True)
    ref = world.measure(data)
    assert ref.metrics["reward_quality/accuracy"] == 0.5
    assert ref.metrics["reward_quality/weak"] == 1
    assert "**Too weak for PPO.**" in (page_of(ref) / "report.md").read_text()
    assert {one["name"] for one in results_of(ref)["weaknesses"]} >= {"over_longer_wins"}
    with pytest.raises(WeakRewardError) as caught:
        refuse_weak(ref, CONFIG)
    assert isinstance(caught.value, QuartetError)
    for words in (
        "ranks 0.500 [0.",
        "the longer one wins",
        "should lie above 0",
        "give more of them",
        "reward_quality.stop_if_weak=false",
    ):
        assert words in str(caught.value)
    going_on = CONFIG.model_copy(update={"stop_if_weak": False})
    again = world.measure(data, going_on)
    assert again.digest == ref.digest  # whether to stop changes nothing in what is measured
    assert again.reused
    refuse_weak(again, going_on)
    assert "THE REWARD MODEL IS WEAK" in caplog.text


def test_without_a_judge_samples_tell_of_their_endings_only(world: World) -> None:
    ref = world.measure(world.data(), gold=False)
    assert 0 <= ref.metrics["reward_quality/sft_ended"] <= 1
    assert 1 <= ref.metrics["reward_quality/sft_length"] <= SAMPLING.max_completion_tokens
    assert results_of(ref)["best_of_n"] == {}
    assert "Best-of-n was not measured" in (page_of(ref) / "report.md").read_text()
    assert not (page_of(ref) / "plots" / "best_of_n.png").exists()
    assert "reward_quality/prompts" not in ref.metrics


def test_the_result_is_named_by_its_models_and_parameters(world: World) -> None:
    data = world.data()
    digests = {
        world.measure(data).digest,
        world.measure(data, judge=world.judge).digest,
        world.measure(data, reward=world.judge).digest,
        world.measure(data, CONFIG.model_copy(update={"bins": 2})).digest,
    }
    assert len(digests) == 4
    manifest = Store(load_settings().store).find(
        "reward-quality", world.measure(data, judge=world.judge).digest
    )
    assert manifest is not None
    assert manifest.inputs == {
        "sft": world.sft.digest,
        "reward_model": world.reward.digest,
        "heldout": data.digest,
        "judge": world.judge.digest,
    }


def test_missing_held_out_prompts_are_named(world: World) -> None:
    with pytest.raises(DataError, match=r"prompts_heldout\.jsonl holds no held-out prompts"):
        world.measure(world.data(prompts=[]))
