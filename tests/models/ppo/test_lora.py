"""LoRA: adapters learn, base weights exist once and never move, on one trunk or on two."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from models.language.config import LoRAConfig
from models.language.folders import (
    load_causal_model,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
)
from models.language.scoring import ScoreMoments, score_sequences, write_score_moments
from models.language.sequences import Sequences, token_logprobs
from models.ppo.config import PPOConfig
from models.ppo.networks import Networks, fingerprint, load_networks
from models.training.adapters import add_adapter, learned_state, publish

LORA = {"lora": LoRAConfig(rank=4, alpha=8.0), "ema_decay": 0.5}
ROWS = [[5, 6, 7, 8], [9, 4, 2]]
IDS = torch.tensor([ROWS[0]])


@pytest.fixture(scope="module")
def adapted_reward(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model that learned as an adapter on the world's SFT model."""
    folder = tmp_path_factory.mktemp("adapted") / "model"
    network = new_reward_model(world.sft, seed=5)
    add_adapter(network, LoRAConfig(rank=2, alpha=4.0), seed=6)
    _move(network)
    publish(
        network, load_tokenizer(world.sft), folder,
        base=world.sft, load=lambda path: new_reward_model(path, seed=0),
    )  # fmt: skip
    write_score_moments(folder, ScoreMoments(mean=0.1, std=0.9, raw_std=0.9, samples=32))
    return folder


@pytest.fixture(scope="module", params=["one trunk", "two trunks"])
def reward(request: pytest.FixtureRequest, world: Any, adapted_reward: Path) -> Path:
    """The folder of a reward model that shares PPO's trunk, or that has its own."""
    return adapted_reward if request.param == "one trunk" else world.reward


@pytest.fixture(scope="module")
def outcome(
    train: Callable[..., Any], reward: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    return train(tmp_path_factory.mktemp("lora"), config=LORA, reward=reward)


@torch.no_grad()
def _move(network: Any) -> None:
    """Take a network away from its start."""
    generator = torch.Generator().manual_seed(0)
    for tensor in learned_state(network).values():
        tensor += 0.1 * torch.randn(tensor.shape, generator=generator)


def _load(world: Any, reward: Path) -> Networks:
    return load_networks(world.sft, reward, config=PPOConfig(**LORA), seed=3, device="cpu")


def test_base_weights_exist_once_and_adapters_and_score_head_learn(
    world: Any, reward: Path, adapted_reward: Path
) -> None:
    networks = _load(world, reward)
    assert networks.one_trunk == (reward == adapted_reward)
    assert all("lora_" in name for name in learned_state(networks.actor))
    heads = [name for name in learned_state(networks.critic) if "lora_" not in name]
    assert heads == ["score.weight"]
    roles = (networks.actor, networks.critic, networks.reference, networks.reward_model)
    weights = {p.data_ptr(): p for role in roles for p in role.parameters()}
    small = sum(p.numel() for p in weights.values() if p.requires_grad)
    trunk = sum(p.numel() for p in load_causal_model(world.sft).parameters())
    trunks = 1 if networks.one_trunk else 2
    # the frozen head stands beside the trunks, on one trunk the reward's adapter too
    assert sum(p.numel() for p in weights.values()) <= trunks * trunk + 2 * small


def test_without_a_critic_there_is_no_adapter_for_one(world: Any, reward: Path) -> None:
    config = PPOConfig(**LORA, advantages="rloo")
    networks = load_networks(world.sft, reward, config=config, seed=3, device="cpu")
    assert networks.critic is None
    assert networks.learning == [networks.actor]
    merged = score_sequences(load_reward_model(reward), ROWS)
    scores = score_sequences(networks.reward_model, ROWS)
    torch.testing.assert_close(scores, merged, atol=1e-5, rtol=0)


@torch.no_grad()
def test_no_role_sees_what_another_has_learned(world: Any, reward: Path) -> None:
    networks, sft = _load(world, reward), load_causal_model(world.sft)
    merged = score_sequences(load_reward_model(reward), ROWS)
    torch.testing.assert_close(score_sequences(networks.critic, ROWS), merged, atol=1e-5, rtol=0)
    _move(networks.actor)
    _move(networks.critic)
    assert torch.equal(networks.reference(IDS).logits, sft(IDS).logits)
    scores = score_sequences(networks.reward_model, ROWS)
    torch.testing.assert_close(scores, merged, atol=1e-5, rtol=0)
    assert (networks.actor(IDS).logits - sft(IDS).logits).abs().max() > 0.01
    assert (score_sequences(networks.critic, ROWS) - scores).abs().max() > 0.01


def test_adapter_of_other_weights_is_not_used(
    world: Any, adapted_reward: Path, make_network: Callable[..., Any], tmp_path: Path
) -> None:
    shutil.copytree(world.sft, tmp_path / "sft")
    other = load_causal_model(world.sft)
    with torch.no_grad():
        other.lm_head.weight[0, 0] += 1e-3
    other.save_pretrained(tmp_path / "sft")
    networks = load_networks(
        tmp_path / "sft", adapted_reward, config=PPOConfig(**LORA), seed=3, device="cpu"
    )
    assert not networks.one_trunk


def test_first_adapter_weights_follow_from_the_seed(world: Any, reward: Path) -> None:
    one, other = _load(world, reward), _load(world, reward)
    for role in ("actor", "critic"):
        learned = [learned_state(getattr(networks, role)) for networks in (one, other)]
        assert fingerprint(learned[0]) == fingerprint(learned[1])


def test_run_publishes_merged_models_their_adapters_and_the_average(
    outcome: Any, world: Any, reward: Path, adapted_reward: Path
) -> None:
    folders = sorted(path.name for path in outcome.out.iterdir() if path.is_dir())
    names = ("critic", "ema", "model")
    assert folders == [folder for name in names for folder in (name, f"{name}_adapter")]
    rows = Sequences.from_lists([row[:1] for row in ROWS], [row[1:] for row in ROWS])
    with torch.no_grad():
        merged, average, start = (
            token_logprobs(load_causal_model(path), rows).logprobs
            for path in (outcome.out / "model", outcome.out / "ema", world.sft)
        )
        adapted = PeftModel.from_pretrained(
            load_causal_model(world.sft), str(outcome.out / "model_adapter")
        ).get_base_model()
        torch.testing.assert_close(
            merged, token_logprobs(adapted, rows).logprobs, atol=1e-5, rtol=0
        )
    assert (merged - start).abs().max() > 1e-3
    assert (average - merged).abs().max() > 1e-4
    base = world.sft if reward == adapted_reward else reward
    critic = PeftModel.from_pretrained(
        AutoModelForSequenceClassification.from_pretrained(base, num_labels=1),
        str(outcome.out / "critic_adapter"),
    ).get_base_model()
    values = score_sequences(load_reward_model(outcome.out / "critic"), ROWS)
    torch.testing.assert_close(values, score_sequences(critic, ROWS), atol=1e-5, rtol=0)
    assert (values - score_sequences(load_reward_model(reward), ROWS)).abs().max() > 1e-3


def test_run_with_adapters_begins_at_ratio_1_and_kl_0(outcome: Any) -> None:
    assert outcome.logged[1]["ppo/objective/kl_to_reference"] == pytest.approx(0.0, abs=1e-5)
    for step in range(2, 6):
        assert outcome.logged[step]["ppo/policy/first_ratio_error"] == 0.0
    assert outcome.logged[5]["ppo/objective/kl_to_reference_k3"] > 1e-4


def test_adapters_and_score_heads_learn_in_float32_on_bfloat16_trunks(
    world: Any, reward: Path, train: Callable[..., Any], tmp_path: Path
) -> None:
    config = LORA | {"precision": "bfloat16", "gradient_checkpointing": True}
    networks = load_networks(world.sft, reward, config=PPOConfig(**config), seed=3, device="cpu")
    for network in (networks.actor, networks.critic, networks.reference, networks.reward_model):
        for name, weight in network.named_parameters():
            small = "lora_" in name or name.startswith("score")
            assert weight.dtype == (torch.float32 if small else torch.bfloat16), name
    found = train(tmp_path, config=config, reward=reward)
    assert found.logged[1]["ppo/objective/kl_to_reference"] == 0.0
    assert found.logged[2]["ppo/policy/first_ratio_error"] == 0.0
    assert found.logged[2]["ppo/policy/grad_norm"] > 0.0
    published = load_file(found.out / "model" / "model.safetensors")
    assert {weight.dtype for weight in published.values()} == {torch.float32}


def test_resumed_run_with_adapters_equals_the_uninterrupted_one(
    outcome: Any, reward: Path, train: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, interrupt_at=3, config=LORA, reward=reward)
    state = torch.load(tmp_path / "checkpoints" / "checkpoint-2" / "state.pt", weights_only=True)
    assert all("lora_" in name or name == "score.weight" for name in state["critic"])
    resumed = train(tmp_path, config=LORA, reward=reward)
    for path in sorted(outcome.out.rglob("*.safetensors")):
        assert path.read_bytes() == (resumed.out / path.relative_to(outcome.out)).read_bytes()


def test_checkpointed_layers_recompute_with_their_own_adapter(
    outcome: Any, reward: Path, train: Callable[..., Any], tmp_path: Path
) -> None:
    config = LORA | {"gradient_checkpointing": True}
    checkpointed = train(tmp_path, config=config, reward=reward)
    for name in ("model_adapter", "critic_adapter"):
        weights = (outcome.out / name / "adapter_model.safetensors").read_bytes()
        assert weights == (checkpointed.out / name / "adapter_model.safetensors").read_bytes()
