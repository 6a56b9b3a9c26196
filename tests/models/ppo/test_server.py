"""The PPO stage with a server as its sampler: what it publishes, and what a lost server costs."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from models.errors import ParameterError, RolloutError
from models.language.folders import save_model
from models.language.scoring import ScoreMoments, write_score_moments
from models.ppo.session import INTERRUPTED
from models.rollouts import server as server_module
from models.rows import write_rows
from tests.models.rollouts.served import Answer, GoBetween, Served, tiny_tokenizer

Train = Callable[..., Any]


@pytest.fixture(scope="module")
def inputs(
    eight_words: Path, make_network: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The stage's inputs, of the model that is served."""
    folder = tmp_path_factory.mktemp("inputs")
    reward = make_network("llama", vocab=8, score_head=True, seed=1)
    reward.config.pad_token_id = 0
    save_model(reward, tiny_tokenizer(), folder / "reward")
    moments = ScoreMoments(mean=0.1, std=0.9, raw_std=0.9, samples=32)
    write_score_moments(folder / "reward", moments)
    write_rows(folder / "prompts.jsonl", [{"prompt": text} for text in ("a b", "c", "d e f")])
    write_rows(folder / "heldout.jsonl", [])
    return {
        "sft": eight_words,
        "reward": folder / "reward",
        "prompts": folder / "prompts.jsonl",
        "heldout_prompts": folder / "heldout.jsonl",
    }


@pytest.fixture
def go_between(rollout_server: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoBetween]:
    monkeypatch.setattr(server_module, "RETRIES", 2)  # nobody waits for it to come back
    monkeypatch.setattr(server_module, "PAUSE_SECONDS", 0.01)
    with closing(GoBetween(rollout_server)) as one:
        yield one


def seeds(go_between: GoBetween) -> set[int]:
    """Of the rows that were asked for, some perhaps twice."""
    return {body["seed"] for path, body in go_between.asked if path.startswith("/v1")}


def published(outcome: Any) -> bytes:
    return (outcome.out / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_lost_server_loses_no_iteration_and_a_new_run_ends_the_same(
    train: Train, inputs: dict[str, Path], go_between: GoBetween, tmp_path: Path, lora: Any
) -> None:
    config = {"rollout_engine": "server", "lora": lora, "checkpoint_iterations": 5}
    given = {**inputs, "config": config, "server": go_between.record}
    whole = train(tmp_path / "whole", **given)
    assert whole.metrics["ppo/policy/importance_mean"] == pytest.approx(1.0, abs=1e-4)
    assert whole.metrics["ppo/objective/sampler_error"] < 1e-4
    updates = [body for path, body in go_between.asked if path.startswith("/update")]
    assert len({body["weight_version"] for body in updates}) == 5
    assert len(seeds(go_between)) == 5 * 6

    def lost_in_the_third_iteration(path: str, answer: Answer) -> Answer:
        return (503, {}) if len(go_between.asked) > 2 * 7 + 4 else answer

    go_between.asked.clear()
    go_between.meddle = lost_in_the_third_iteration
    with pytest.raises(RolloutError, match="did not answer in 3 attempts"):
        train(tmp_path / "cut", **given)
    assert (tmp_path / "cut" / "checkpoints" / INTERRUPTED).is_dir()
    go_between.meddle = lambda path, answer: answer
    go_between.asked.clear()
    resumed = train(tmp_path / "cut", **given)
    assert sorted(resumed.logged) == [3, 4, 5]
    assert len(seeds(go_between)) == 3 * 6
    assert published(resumed) == published(whole)


def test_server_is_not_asked_where_this_process_samples(
    train: Train, inputs: dict[str, Path], go_between: GoBetween, tmp_path: Path
) -> None:
    outcome = train(tmp_path, **inputs, server=go_between.record)
    assert not go_between.asked
    assert not [name for name in outcome.metrics if "importance" in name]


def test_run_wants_a_server_where_one_is_to_sample(
    train: Train, inputs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match="QUARTET_ROLLOUT_SERVER"):
        train(tmp_path, **inputs, config={"rollout_engine": "server"})
