"""Reward modelling: learns an order, keeps honest books on it, stores its score moments."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoints import latest
from models.errors import DataError, ParameterError
from models.language.config import SamplingConfig
from models.language.examples import encode_pairs
from models.language.folders import load_causal_model, load_reward_model, new_reward_model
from models.language.generation import Completion
from models.language.scoring import read_score_moments, score_sequences
from models.randomness import derive_seed
from models.reward.config import RewardStageConfig
from models.reward.moments import measure_score_moments
from models.reward.training import train_reward_model
from models.rows import write_rows
from models.runtime import TrainingRun

CONFIG = RewardStageConfig(
    batch_size=8, epochs=2.0, learning_rate=1e-2, checkpoint_steps=3, moment_samples=16
)
SAMPLING = SamplingConfig(max_completion_tokens=8)


def _chat(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


WORDS = ["cat", "dog", "mat", "hill", "day", "sum", "home", "it"]
PAIRS = [
    _chat(f"{first} {second}", f"the {first}", f"a {second}")
    for first in WORDS
    for second in WORDS[:3]
]

RUN = {"seed", "log"}


@pytest.fixture
def run(tmp_path: Path, base_folder: Path, make_run: Callable[..., TrainingRun]) -> Any:
    write_rows(tmp_path / "pairs.jsonl", PAIRS)
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": row["prompt"]} for row in PAIRS[:5]])

    def start(name: str = "a", **changes: Any) -> Any:
        settings: dict[str, Any] = {
            "sft": base_folder,
            "preferences": tmp_path / "pairs.jsonl",
            "heldout": tmp_path / "pairs.jsonl",
            "prompts": tmp_path / "prompts.jsonl",
            "contrasts": None,
            "config": CONFIG,
            "sampling": SAMPLING,
        }
        run = make_run(tmp_path / name, **{key: changes.pop(key) for key in RUN & changes.keys()})
        return train_reward_model(**settings | changes, run=run)

    return start


def _weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_reward_model_learns_an_order_and_reports(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    contrasts = [{**PAIRS[0], "respect": "tone of voice"}, {**PAIRS[1], "respect": "facts"}]
    backwards = _chat("cat dog", "a dog", "the cat")
    write_rows(tmp_path / "contrasts.jsonl", [*contrasts, {**backwards, "respect": "facts"}])
    seen: dict[int, dict[str, float]] = {}
    metrics = run(
        contrasts=tmp_path / "contrasts.jsonl",
        log=lambda found, step: seen.setdefault(step, {}).update(found),
    )
    assert sorted(seen) == [1, 2, 3, 4, 5, 6]  # 2 epochs of 24 pairs in batches of 8
    assert metrics["reward/accuracy"] > 0.9
    assert metrics["reward/accuracy_low"] < metrics["reward/accuracy"]
    assert metrics["reward/accuracy"] <= metrics["reward/accuracy_high"] <= 1.0
    assert metrics["reward/accuracy_tone_of_voice"] == 1.0
    assert metrics["reward/accuracy_facts"] == 0.5  # one pair of two is backwards
    assert 0.0 <= metrics["reward/longer_wins_accuracy"] <= 1.0
    assert metrics["reward/pairs"] == 24.0
    assert seen[6]["reward/accuracy"] == metrics["reward/accuracy"]
    assert "CHANCE" not in caplog.text
    moments = read_score_moments(tmp_path / "a")
    assert (moments.mean, moments.std) == (
        metrics["reward/score_mean"],
        metrics["reward/score_std"],
    )
    assert "quartet" not in (tmp_path / "a" / "config.json").read_text(encoding="utf-8")
    assert load_reward_model(tmp_path / "a").config._attn_implementation == "sdpa"


def test_reward_model_no_better_than_chance_is_said_loudly(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both_ways = [
        pair
        for row in PAIRS[:6]
        for pair in (row, {**row, "chosen": row["rejected"], "rejected": row["chosen"]})
    ]
    write_rows(tmp_path / "chance.jsonl", both_ways)
    metrics = run(heldout=tmp_path / "chance.jsonl")
    assert metrics["reward/accuracy"] == 0.5
    assert metrics["reward/accuracy_low"] < 0.5
    assert "NO BETTER THAN CHANCE" in caplog.text


@pytest.mark.parametrize("margin", [None, 0.75])
def test_first_loss_is_bradley_terry_with_the_margin(
    run: Any, tmp_path: Path, tokenizer: Any, base_folder: Path, margin: float | None
) -> None:
    rows = [row if margin is None else {**row, "margin": margin} for row in PAIRS]
    write_rows(tmp_path / "pairs.jsonl", rows)
    seen: dict[int, Mapping[str, float]] = {}
    config = CONFIG.model_copy(update={"batch_size": 24, "epochs": 1.0})
    run(config=config, log=lambda found, step: seen.setdefault(step, found))
    model = new_reward_model(base_folder, seed=derive_seed(0, "reward.head"))
    pairs = encode_pairs(tokenizer, PAIRS, 64)
    chosen = score_sequences(model, pairs.chosen_sequences).tolist()
    rejected = score_sequences(model, pairs.rejected_sequences).tolist()
    losses = [
        math.log1p(math.exp(-(c - r - (margin or 0.0))))
        for c, r in zip(chosen, rejected, strict=True)
    ]
    # Float32 scores, a mean of 24.
    assert seen[1]["reward/loss"] == pytest.approx(sum(losses) / 24, rel=1e-5)


@pytest.mark.parametrize("element", ["pair", "prompt"])
def test_ties_and_margins_are_counted_with_either_batch_element(
    run: Any, tmp_path: Path, element: Any
) -> None:
    """Rankings of three, given as all their pairs, the last two completions equally good."""
    rows = []
    for first in WORDS:
        best, second, third = f"the {first}", f"a {first}", f"it {first}"
        pairs = [(best, second, 1.0, False), (best, third, 0.5, False), (second, third, 0.0, True)]
        rows += [
            {**_chat(first, chosen, rejected), "margin": margin, "tie": tie}
            for chosen, rejected, margin, tie in pairs
        ]
    write_rows(tmp_path / "pairs.jsonl", rows)
    config = CONFIG.model_copy(update={"batch_element": element, "batch_size": 4})
    steps: list[int] = []
    metrics = run(config=config, log=lambda found, step: steps.append(step))
    # 2 epochs of 24 pairs or of 8 prompts, in batches of 4
    assert max(steps) == (12 if element == "pair" else 4)
    names = ("pairs", "prompts", "ties", "heldout_ties")
    assert [metrics[f"reward/{name}"] for name in names] == [24.0, 8.0, 8.0, 8.0]
    assert metrics["reward/accuracy"] > 0.9
    levels = [metrics[f"reward/accuracy_margin_{level}"] for level in ("0.5", "1")]
    assert sum(levels) / 2 == pytest.approx(metrics["reward/accuracy"])  # ties are in neither
    assert "reward/accuracy_margin_0" not in metrics


def test_prompts_as_batch_elements_compute_each_completion_once(run: Any, tmp_path: Path) -> None:
    texts = [f"the {word}" for word in WORDS[:4]]
    ranked = [
        _chat("cat", better, worse) for at, better in enumerate(texts) for worse in texts[at + 1 :]
    ]
    write_rows(tmp_path / "pairs.jsonl", ranked)
    by_pair = run("pairs", config=CONFIG.model_copy(update={"epochs": 1.0}))
    config = CONFIG.model_copy(update={"epochs": 1.0, "batch_element": "prompt"})
    by_prompt = run("prompts", config=config)
    assert by_pair["reward/pairs"] == by_prompt["reward/pairs"] == 6.0
    assert by_pair["reward/tokens"] == 3 * by_prompt["reward/tokens"]  # 12 completions and 4


def test_held_out_ties_alone_are_refused(run: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "ties.jsonl", [{**row, "tie": True} for row in PAIRS[:3]])
    with pytest.raises(DataError, match="has 3 pairs, all of them ties"):
        run(heldout=tmp_path / "ties.jsonl")


def test_equal_seeds_give_equal_bits_and_others_do_not(run: Any, tmp_path: Path) -> None:
    assert run("a") == run("b")
    run("c", seed=1)
    assert _weights(tmp_path / "a") == _weights(tmp_path / "b") != _weights(tmp_path / "c")
    moments = [(tmp_path / name / "score_moments.json").read_bytes() for name in ("a", "b")]
    assert moments[0] == moments[1]


def test_killed_run_resumes_to_equal_bits(run: Any, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(metrics: Mapping[str, float], step: int) -> None:
        if step == 5:
            raise Killed

    run("whole")
    with pytest.raises(Killed):
        run("broken", log=kill)
    kept = tmp_path / "broken.checkpoints"
    assert latest(kept) == kept / "checkpoint-3"
    steps: list[int] = []
    run("broken", log=lambda metrics, step: steps.append(step))
    assert min(steps) == 4
    assert _weights(tmp_path / "broken") == _weights(tmp_path / "whole")


def test_moments_are_those_of_prompt_and_completion_together(
    base_folder: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(model: Any, prompts: list[list[int]], **settings: Any) -> list[Completion]:
        return [
            Completion(token_ids=[20 + at, 1], logprobs=[0.0, 0.0], finished=True)
            for at in range(len(prompts))
        ]

    monkeypatch.setattr("models.reward.moments.sample_completions", sample)
    model = new_reward_model(base_folder, seed=0)
    prompts = [[5, 6], [7], [8, 9, 10]]
    moments = measure_score_moments(
        model,
        load_causal_model(base_folder),
        tokenizer,
        prompts,
        config=CONFIG.model_copy(update={"min_score_std": 1e-9}),
        sampling=SAMPLING,
        seed=0,
    )
    rows = [[5, 6, 20, 1], [7, 21, 1], [8, 9, 10, 22, 1]]
    scores = [float(model(input_ids=torch.tensor([ids])).logits.detach().squeeze()) for ids in rows]
    mean = sum(scores) / 3
    deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / 2)
    # Float32 scores around 1 in batches of other shapes.
    assert moments.mean == pytest.approx(mean, abs=1e-6)
    assert moments.std == moments.raw_std == pytest.approx(deviation, abs=1e-6)
    assert moments.samples == 3


def test_moments_sample_every_prompt_before_any_repeats(
    run: Any, tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []

    def sample(model: Any, prompts: list[list[int]], **settings: Any) -> list[Completion]:
        seen.extend(prompts)
        return [Completion(token_ids=[1], logprobs=[0.0], finished=True) for _ in prompts]

    monkeypatch.setattr("models.reward.moments.sample_completions", sample)
    run()
    # 16 samples of 5 prompts, in one shuffled order over and over.
    assert len(seen) == 16
    assert len({tuple(ids) for ids in seen[:5]}) == 5
    assert seen[5:10] == seen[:5]


def test_small_deviation_is_floored_with_a_warning(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = run(config=CONFIG.model_copy(update={"min_score_std": 1000.0}))
    moments = read_score_moments(tmp_path / "a")
    assert moments.std == metrics["reward/score_std"] == 1000.0
    assert moments.raw_std == metrics["reward/score_raw_std"] < 1000.0
    assert "amplify noise" in caplog.text


def test_dropped_pairs_are_counted_and_nothing_left_is_refused(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    same = _chat("cat", "the cat", "the cat")
    long = _chat("cat", "the cat", "the mat " * 99)
    write_rows(tmp_path / "pairs.jsonl", [*PAIRS, same, long, long])
    metrics = run()
    assert (metrics["reward/dropped_equal"], metrics["reward/dropped_too_long"]) == (1.0, 2.0)
    assert "of 27 pairs" in caplog.text
    write_rows(tmp_path / "same.jsonl", [same])
    with pytest.raises(DataError, match="has 1 pairs, 1 of them with equal completions"):
        run("b", preferences=tmp_path / "same.jsonl")


def test_prompts_and_room_for_them_are_needed_before_training(run: Any, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="max_completion_tokens 64 fills the context of 64"):
        run(sampling=SamplingConfig(max_completion_tokens=64))
    write_rows(tmp_path / "prompts.jsonl", [])
    with pytest.raises(DataError, match="holds no prompts"):
        run()
    assert not (tmp_path / "a.checkpoints").exists()
