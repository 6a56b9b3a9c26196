"""A rollout against rows taken one by one, unpadded, in float64 loops."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.language.scoring import ScoreMoments
from models.language.sequences import Sequences
from models.ppo.networks import Networks
from models.ppo.rollout import Rollout, critic_values
from models.ppo.trainer import PPOTrainer

TEMPERATURE = 0.7
SEED = 0
"""With it, some completions end by themselves and some do not."""
# float32 against float64, and shapes that differ: a few 1e-6 on numbers of size 10.
TOLERANCE = 5e-5


Collect = Callable[..., Rollout]


@pytest.fixture
def collect(
    make_trainer: Callable[..., PPOTrainer],
    seen: list[Any],
    prompts: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> Collect:
    """The rollout of one iteration on copies of the networks, with the prompts in their order."""

    def run(networks: Networks, *, repeats: int = 1, **changes: Any) -> Rollout:
        rows = prompts * repeats
        trainer = make_trainer(
            networks=copy.deepcopy(networks),
            prompts=rows,
            seed=SEED,
            **{"rollouts_per_iteration": len(rows), "rollouts_per_minibatch": 1} | changes,
        )
        monkeypatch.setattr(trainer, "_prompts_of", lambda iteration: rows)
        with torch.enable_grad():
            trainer.step()
        rollout: Rollout = seen[-1].rollout
        return rollout

    return run


def _completions(rollout: Rollout) -> list[list[int]]:
    rows = rollout.sequences
    return [
        ids[start : start + count].tolist()
        for ids, start, count in zip(
            rows.input_ids, rows.prompt_lengths, rows.completion_lengths, strict=True
        )
    ]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("tokens_per_microbatch", [1, 40, 10_000])
@torch.no_grad()
def test_rollout_equals_rows_alone(
    collect: Collect,
    make_four_networks: Callable[..., Networks],
    unpadded: Any,
    prompts: list[list[int]],
    family: str,
    tokens_per_microbatch: int,
) -> None:
    """From the sampled tokens on, everything again: a row at a time, in plain loops."""
    networks = make_four_networks(family, parted=True)
    rollout = collect(
        networks,
        repeats=2,
        tokens_per_microbatch=tokens_per_microbatch,
        kl_coef=0.2,
        gamma=0.9,
        gae_lambda=0.8,
        missing_eos_penalty=2.0,
    )
    completions = _completions(rollout)
    ended = [ids[-1] == 1 for ids in completions]
    assert any(ended)
    assert not all(ended)
    raw, everything = [], []
    for row, (prompt, ids) in enumerate(zip(prompts * 2, completions, strict=True)):
        logprobs = unpadded.logprobs(networks.actor, prompt, ids, TEMPERATURE)
        reference = unpadded.logprobs(networks.reference, prompt, ids, TEMPERATURE)
        values = (unpadded.values(networks.critic, prompt, ids) - 0.3) / 0.8
        score = float((unpadded.score(networks.reward_model, prompt + ids) - 0.3) / 0.8)
        rewards = (-0.2 * (logprobs - reference)).tolist()
        rewards[-1] += score - (0.0 if ended[row] else 2.0)
        advantages = [0.0] * len(ids)
        carried, following = 0.0, 0.0
        for step in reversed(range(len(ids))):
            delta = rewards[step] + 0.9 * following - float(values[step])
            carried, following = delta + 0.9 * 0.8 * carried, float(values[step])
            advantages[step] = carried
        returns = [a + float(v) for a, v in zip(advantages, values, strict=True)]
        _assert_near(rollout.old_logprobs[row], logprobs.tolist())
        _assert_near(rollout.old_values[row], values.tolist())
        _assert_near(rollout.returns[row], returns)
        raw.append(advantages)
        everything += advantages
    mean = sum(everything) / len(everything)
    std = math.sqrt(sum((a - mean) ** 2 for a in everything) / len(everything))
    assert std > 0.5
    for row, advantages in enumerate(raw):
        _assert_near(rollout.advantages[row], [(a - mean) / std for a in advantages])


def _assert_near(got: torch.Tensor, wanted: list[float]) -> None:
    """Counted tokens are near; what is behind them is exactly zero."""
    assert got[: len(wanted)].tolist() == pytest.approx(wanted, abs=TOLERANCE)
    assert got[len(wanted) :].tolist() == [0.0] * (len(got) - len(wanted))


@torch.no_grad()
def test_rollout_reports_what_one_watches(
    collect: Collect,
    make_four_networks: Callable[..., Networks],
    unpadded: Any,
    prompts: list[list[int]],
) -> None:
    networks = make_four_networks(parted=True)
    rollout = collect(networks, repeats=2, kl_coef=0.2, gamma=1.0, gae_lambda=1.0)
    completions = _completions(rollout)
    scores, k1, k3, entropy, values, rewards = [], [], [], [], [], []
    for prompt, ids in zip(prompts * 2, completions, strict=True):
        logprobs = unpadded.logprobs(networks.actor, prompt, ids, TEMPERATURE)
        reference = unpadded.logprobs(networks.reference, prompt, ids, TEMPERATURE)
        rows = unpadded.distributions(networks.actor, prompt, ids, TEMPERATURE)
        scores.append(float(unpadded.score(networks.reward_model, prompt + ids)))
        k1.append(float((logprobs - reference).sum()))
        k3.append(float(((reference - logprobs).exp() - 1 - (reference - logprobs)).sum()))
        entropy += [-float((row.exp() * row).sum()) for row in rows]
        values += ((unpadded.values(networks.critic, prompt, ids) - 0.3) / 0.8).tolist()
        # The default penalty of 3 for a completion without EOS.
        rewards.append((scores[-1] - 0.3) / 0.8 - 3.0 * (ids[-1] != 1) - 0.2 * k1[-1])
    mean = sum(scores) / 12
    wanted = {
        "objective/score": mean,
        "objective/score_std": math.sqrt(sum((s - mean) ** 2 for s in scores) / 12),
        "objective/score_normalised": (mean - 0.3) / 0.8,
        "objective/reward": sum(rewards) / 12,
        "objective/kl_to_reference": sum(k1) / 12,
        "objective/kl_to_reference_k3": sum(k3) / 12,
        "objective/entropy": sum(entropy) / len(entropy),
        "objective/completion_tokens": len(entropy) / 12,
        "objective/eos_rate": sum(ids[-1] == 1 for ids in completions) / 12,
        "objective/kl_coef": 0.2,
        "value/mean": sum(values) / len(values),
    }
    got = {name: rollout.metrics[name] for name in wanted}
    assert got == pytest.approx(wanted, abs=TOLERANCE, rel=TOLERANCE)
    assert wanted["objective/kl_to_reference"] > 1.0  # parted, so the sign would show


def test_missing_eos_costs_the_penalty_on_the_last_token_only(
    collect: Collect,
    make_four_networks: Callable[..., Networks],
) -> None:
    networks = make_four_networks()
    settings: dict[str, Any] = {"gamma": 1.0, "gae_lambda": 1.0}
    free = collect(networks, missing_eos_penalty=0.0, **settings)
    fined = collect(networks, missing_eos_penalty=5.0, **settings)
    # With gamma and lambda 1 every token's return is what is still to come: all of the fine.
    difference = free.returns - fined.returns
    for row, ids in enumerate(_completions(free)):
        wanted = 0.0 if ids[-1] == 1 else 5.0
        assert difference[row, : len(ids)].tolist() == pytest.approx([wanted] * len(ids), abs=1e-5)


def test_critic_starts_on_the_scale_of_the_normalised_score(
    make_four_networks: Callable[..., Networks], moments: ScoreMoments
) -> None:
    """Before its last token, the untrained critic says what the reward model says there."""
    networks = make_four_networks()
    rows = Sequences.from_lists([[5, 6]], [[7, 8, 9]])
    values = critic_values(networks.critic, rows, moments)
    score = networks.reward_model(torch.tensor([[5, 6, 7, 8]])).logits[0, 0]
    assert values[0, 2].item() == pytest.approx(((score - 0.3) / 0.8).item(), abs=1e-5)


def test_rollout_leaves_no_gradient(
    collect: Collect,
    make_four_networks: Callable[..., Networks],
) -> None:
    rollout = collect(make_four_networks())
    for tensor in (rollout.old_logprobs, rollout.old_values, rollout.advantages, rollout.returns):
        assert not tensor.requires_grad


def test_rows_lie_minibatch_by_minibatch_shortest_first(
    collect: Collect,
    make_four_networks: Callable[..., Networks],
) -> None:
    """Nothing but their order changes, and no row leaves its minibatch."""
    networks = make_four_networks()
    plain = collect(networks, repeats=2, rollouts_per_minibatch=1)
    ordered = collect(networks, repeats=2, rollouts_per_minibatch=4)
    rows = list(zip(*_rows(plain), strict=True))
    wanted = [
        row
        for start in (0, 4, 8)
        for row in sorted(rows[start : start + 4], key=lambda row: len(row[0]) + len(row[1]))
    ]
    assert wanted != rows
    for got, want in zip(zip(*_rows(ordered), strict=True), wanted, strict=True):
        assert got[:2] == want[:2]
        assert got[2] == pytest.approx(want[2], abs=TOLERANCE)


def _rows(rollout: Rollout) -> tuple[list[list[int]], list[list[int]], list[list[float]]]:
    """Prompt, completion and returns of each row."""
    sequences = rollout.sequences
    starts = sequences.prompt_lengths.tolist()
    prompts = [row[:n] for row, n in zip(sequences.input_ids.tolist(), starts, strict=True)]
    completions = _completions(rollout)
    returns = [
        row[: len(ids)] for row, ids in zip(rollout.returns.tolist(), completions, strict=True)
    ]
    return prompts, completions, returns
