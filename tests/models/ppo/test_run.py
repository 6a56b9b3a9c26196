"""The PPO stage from folders to folders: what it logs and publishes, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.adoption.adopt import adopt_model
from models.checkpoints import latest
from models.errors import DataError, DivergedError, ModelError, ParameterError
from models.language.config import TokenizerConfig
from models.language.folders import (
    load_causal_model,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    save_model,
)
from models.language.packing import row_layout
from models.language.scoring import ScoreMoments, read_score_moments, write_score_moments
from models.language.tokenizer import train_tokenizer
from models.ppo import run as run_module
from models.ppo.alarms import AlarmWatch
from models.ppo.config import PPOConfig
from models.ppo.networks import load_networks
from models.rows import read_rows, write_rows
from tests.models.adoption.tiny_models import build, save

Train = Callable[..., Any]

# FIELD's list of monitors: score, KL (k1 and k3), entropy, clip, ratio, value, length, EOS rate,
# gradient norms, seconds a phase, tokens a second.
MONITORS = {
    "objective/score",
    "objective/score_std",
    "objective/score_normalised",
    "objective/reward",
    "objective/kl_to_reference",
    "objective/kl_to_reference_k3",
    "objective/kl_coef",
    "objective/entropy",
    "objective/completion_tokens",
    "objective/completion_tokens_std",
    "objective/eos_rate",
    "objective/kl_standard_error",
    "objective/distinct_2",
    "objective/sampler_error",
    *(f"alarm/{name}" for name in AlarmWatch.NAMES),
    "policy/loss",
    "policy/approx_kl",
    "policy/clip_fraction",
    "policy/ratio_mean",
    "policy/ratio_max",
    "policy/grad_norm",
    "policy/learning_rate",
    "policy/early_stop",
    "policy/optimizer_steps",
    "policy/first_ratio_error",
    "policy/first_approx_kl",
    "value/loss",
    "value/clip_fraction",
    "value/grad_norm",
    "value/explained_variance",
    "value/returns",
    "value/mean",
    "time/sampling_seconds",
    "time/judging_seconds",
    "time/rollout_seconds",
    "time/update_seconds",
    "time/tokens_per_second",
    "time/sampled_tokens_per_second",
}


def test_run_logs_every_monitor(whole: Any) -> None:
    assert sorted(whole.logged) == [1, 2, 3, 4, 5]
    assert set(whole.logged[5]) == {f"ppo/{name}" for name in MONITORS}
    summary = {"ppo/iterations": 5.0, "ppo/alarms/eos_rate": 3}
    assert whole.metrics == whole.logged[5] | summary
    raised = [step for step in whole.logged if whole.logged[step]["ppo/alarm/eos_rate"]]
    assert raised == [row["iteration"] for row in read_rows(whole.out / "alarms.jsonl")]
    assert raised == [3, 4, 5]
    warm_up = {name for name in whole.logged[1] if name.startswith("ppo/policy/")}
    assert warm_up == {"ppo/policy/optimizer_steps"}  # the actor did not learn yet


def test_run_publishes_complete_folders(whole: Any, world: Any) -> None:
    assert sorted(path.name for path in whole.out.iterdir()) == [
        "alarms.jsonl",
        "critic",
        "model",
        "samples.jsonl",
    ]
    assert (whole.out / "model" / "generation_config.json").is_file()
    start, actor = load_causal_model(world.sft), load_causal_model(whole.out / "model")
    assert not _equal(start, actor)
    before, critic = load_reward_model(world.reward), load_reward_model(whole.out / "critic")
    assert not _equal(before, critic)
    assert read_score_moments(whole.out / "critic") == read_score_moments(world.reward)
    for folder in ("model", "critic"):
        vocabulary = load_tokenizer(whole.out / folder, wants_template=True).get_vocab()
        assert vocabulary == load_tokenizer(world.sft).get_vocab()


def _equal(one: Any, other: Any) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


def test_run_leaves_its_inputs_alone(
    world: Any, whole: Any, make_network: Callable[..., Any], tokenizer: Any
) -> None:
    assert _equal(load_causal_model(world.sft), make_network("llama", vocab=len(tokenizer)))


def test_run_samples_the_watched_prompts_at_the_start_and_at_every_checkpoint(whole: Any) -> None:
    rows = read_rows(whole.out / "samples.jsonl")
    assert [row["iteration"] for row in rows] == [0] * 8 + [2] * 8 + [4] * 8 + [5] * 8
    # 8 of 11 rows at equal distances: 11 i / 8 rounded down.
    picked = [f"a dog number {index}" for index in (0, 1, 2, 4, 5, 6, 8, 9)]
    assert [row["prompt"] for row in rows] == picked * 4
    assert all(set(row) == {"iteration", "prompt", "completion", "finished"} for row in rows)
    assert rows[:8] != rows[24:]


def test_run_without_watched_prompts_has_no_samples(train: Train, tmp_path: Path) -> None:
    write_rows(tmp_path / "none.jsonl", [])
    outcome = train(tmp_path, heldout_prompts=tmp_path / "none.jsonl")
    assert read_rows(outcome.out / "samples.jsonl") == []


def test_run_refuses_an_empty_prompt_file(train: Train, tmp_path: Path) -> None:
    write_rows(tmp_path / "empty.jsonl", [])
    with pytest.raises(DataError, match=r"empty\.jsonl holds no prompts; PPO needs"):
        train(tmp_path, prompts=tmp_path / "empty.jsonl")


def test_run_refuses_a_reward_model_without_moments(
    train: Train, world: Any, tmp_path: Path
) -> None:
    bare = shutil.copytree(world.reward, tmp_path / "bare")
    (bare / "score_moments.json").unlink()
    with pytest.raises(ModelError, match=r"score_moments\.json cannot be read"):
        train(tmp_path, reward=bare)


def test_run_refuses_a_reward_model_with_another_tokenizer(
    train: Train, world: Any, tmp_path: Path, make_network: Callable[..., Any]
) -> None:
    """The same size, but other merges: nothing but a look at the vocabulary tells."""
    write_rows(tmp_path / "corpus.jsonl", [{"text": "zyx wvu zyx wvu tsr qpo tsr qpo nml"}] * 30)
    config = TokenizerConfig(vocab_size=300)
    train_tokenizer(
        corpus=tmp_path / "corpus.jsonl", config=config, context=64, out=tmp_path / "words"
    )
    tokenizer = load_tokenizer(tmp_path / "words")
    vocab = load_causal_model(world.sft).config.vocab_size
    other = make_network("llama", vocab=vocab, score_head=True)
    save_model(other, tokenizer, tmp_path / "other")
    with pytest.raises(ModelError, match="has another tokenizer than the SFT model"):
        train(tmp_path, reward=tmp_path / "other")


def test_run_refuses_a_reward_model_with_another_vocabulary_size(
    world: Any, tmp_path: Path, make_network: Callable[..., Any], tokenizer: Any
) -> None:
    wide = make_network("llama", vocab=len(tokenizer) + 1, score_head=True)
    save_model(wide, tokenizer, tmp_path / "wide")
    n = len(tokenizer)
    message = rf"SFT model \(vocabulary {n}\) and the reward model \(vocabulary {n + 1}\)"
    with pytest.raises(ModelError, match=message):
        load_networks(world.sft, tmp_path / "wide", config=PPOConfig(), seed=0, device="cpu")


def test_run_refuses_a_model_whose_packed_rows_see_each_other(
    world: Any, tmp_path: Path, tokenizer: Any
) -> None:
    save_model(build("nemotron", tokenizer), tokenizer, tmp_path / "sft")  # never adopted
    with pytest.raises(ModelError, match="packed rows are not what the model itself computes"):
        load_networks(tmp_path / "sft", world.reward, config=PPOConfig(), seed=0, device="cpu")


def test_run_with_padded_rows_starts_each_rollout_at_ratio_one(
    train: Train, tmp_path: Path, tokenizer: Any
) -> None:
    """Rows of a Nemotron cannot be packed; its policy keeps the layout that adoption found."""
    adopt_model(str(save("nemotron", tokenizer, tmp_path / "in")), None, tmp_path / "sft")
    save_model(new_reward_model(tmp_path / "sft", seed=0), tokenizer, tmp_path / "reward")
    moments = ScoreMoments(mean=0.0, std=1.0, raw_std=1.0, samples=32)
    write_score_moments(tmp_path / "reward", moments)
    outcome = train(
        tmp_path / "run",
        sft=tmp_path / "sft",
        reward=tmp_path / "reward",
    )
    for step in (2, 5):  # before, the critic learns alone
        assert outcome.logged[step]["ppo/policy/first_ratio_error"] == 0.0
    assert row_layout(load_causal_model(outcome.out / "model")) == "padded"


def test_diverged_run_leaves_its_state_and_says_where(
    train: Train, world: Any, tmp_path: Path
) -> None:
    broken = shutil.copytree(world.reward, tmp_path / "broken")
    moments = json.loads((broken / "score_moments.json").read_text())
    (broken / "score_moments.json").write_text(json.dumps(moments | {"mean": 1e300}))
    with pytest.raises(DivergedError, match=r"in iteration 0, .*diverged; last metrics: \{\}"):
        train(tmp_path, reward=broken)
    state = torch.load(tmp_path / "checkpoints" / "diverged" / "state.pt", weights_only=True)
    assert state["finished_iterations"] == 0
    assert latest(tmp_path / "checkpoints") is None  # never resumed from
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("role", ["reference", "reward_model"])
def test_run_notices_a_frozen_network_that_moved(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    class Careless(run_module.PPOTrainer):
        def step(self, *given: Any) -> dict[str, float]:
            with torch.no_grad():
                next(getattr(self.networks, role).parameters())[0, 0] += 1e-6
            return super().step(*given)

    monkeypatch.setattr(run_module, "PPOTrainer", Careless)
    with pytest.raises(ModelError, match=f"the {role} changed during PPO"):
        train(tmp_path)


def test_alarm_can_stop_the_run_at_the_last_checkpoint_before_it(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In iteration 3 no completion ends by itself any more; that is one alarm in `whole`, too."""
    stopped = train(tmp_path, config={"alarms": {"action": "stop"}})
    assert sorted(stopped.logged) == [1, 2, 3]
    assert stopped.metrics["ppo/iterations"] == 2
    assert stopped.metrics["ppo/alarms/eos_rate"] == 1
    assert stopped.metrics["ppo/objective/score"] == stopped.logged[2]["ppo/objective/score"]
    assert (
        "alarm eos_rate in iteration 3: objective/eos_rate is 0, its bound 0.09763" in caplog.text
    )
    assert "PPO ends at iteration 2, the last checkpoint before the alarm" in caplog.text
    (row,) = read_rows(stopped.out / "alarms.jsonl")
    assert (row["name"], row["iteration"]) == ("eos_rate", 3)
    state = torch.load(stopped.checkpoints / "checkpoint-2" / "state.pt", weights_only=True)
    published = dict(load_causal_model(stopped.out / "model").named_parameters())
    assert state["finished_iterations"] == 2
    assert all(torch.equal(published[name], weight) for name, weight in state["actor"].items())


def test_alarm_before_the_first_checkpoint_is_an_error(train: Train, tmp_path: Path) -> None:
    config = {"alarms": {"action": "stop"}, "checkpoint_iterations": 5}
    with pytest.raises(DivergedError, match="before its first checkpoint by alarm eos_rate in"):
        train(tmp_path, config=config)


def test_run_refuses_a_pretraining_mix_without_a_corpus(train: Train, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"ppo.ptx_coef is 0.2 but the data has no corpus"):
        train(tmp_path, corpus=None, config={"ptx_coef": 0.2})
