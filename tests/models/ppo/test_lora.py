"""LoRA: adapters learn, the base does not, and the reference is the actor without them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from models.language.folders import load_causal_model
from models.ppo.config import LoRAConfig, PPOConfig
from models.ppo.networks import Networks, fingerprint, learned_state, load_networks
from models.rows import read_rows

LORA = {"lora": LoRAConfig(rank=4, alpha=8.0), "ema_decay": 0.5}


@pytest.fixture(scope="module")
def outcome(train: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train(tmp_path_factory.mktemp("lora"), config=LORA)


def _load(world: Any) -> Networks:
    return load_networks(world.sft, world.reward, config=PPOConfig(**LORA), seed=3, device="cpu")


def test_only_adapters_learn_and_no_second_copy_exists(world: Any) -> None:
    networks = _load(world)
    assert networks.reference is None
    learned = learned_state(networks.actor)
    assert learned
    assert all("lora_" in name for name in learned)
    total = sum(p.numel() for p in networks.actor.parameters())
    assert sum(tensor.numel() for tensor in learned.values()) < 0.5 * total


@torch.no_grad()
def test_reference_is_the_actor_without_its_adapter(world: Any) -> None:
    networks, sft = _load(world), load_causal_model(world.sft)
    for name, tensor in learned_state(networks.actor).items():
        tensor += 0.3 * torch.ones_like(tensor) * ("lora_B" in name)
    ids = torch.tensor([[5, 6, 7, 8]])
    with networks.as_reference() as reference:
        without = reference(ids).logits
    torch.testing.assert_close(without, sft(ids).logits, atol=1e-6, rtol=0)
    assert (networks.actor(ids).logits - without).abs().max() > 0.01
    assert learned_state(networks.actor)  # still set to learn


def test_first_adapter_weights_follow_from_the_seed(world: Any) -> None:
    one, other = _load(world), _load(world)
    assert fingerprint(learned_state(one.actor)) == fingerprint(learned_state(other.actor))


def test_run_publishes_the_merged_model_its_adapter_and_the_average(
    outcome: Any, world: Any
) -> None:
    folders = sorted(path.name for path in outcome.out.iterdir() if path.is_dir())
    assert folders == ["critic", "ema", "ema_adapter", "model", "model_adapter"]
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        merged = load_causal_model(outcome.out / "model")(ids).logits
        adapted = PeftModel.from_pretrained(
            load_causal_model(world.sft), str(outcome.out / "model_adapter")
        )(ids).logits
        average = load_causal_model(outcome.out / "ema")(ids).logits
        start = load_causal_model(world.sft)(ids).logits
    torch.testing.assert_close(merged, adapted, atol=1e-5, rtol=0)
    assert (merged - start).abs().max() > 1e-3
    assert (average - merged).abs().max() > 1e-4


def test_run_with_adapters_begins_at_ratio_1_and_kl_0(outcome: Any) -> None:
    assert outcome.logged[1]["ppo/objective/kl_to_reference"] == pytest.approx(0.0, abs=1e-5)
    for step in range(2, 6):
        assert outcome.logged[step]["ppo/policy/first_ratio_error"] <= 1e-6
    assert outcome.logged[5]["ppo/objective/kl_to_reference_k3"] > 1e-4
    assert read_rows(outcome.out / "alarms.jsonl") is not None


def test_resumed_run_with_adapters_equals_the_uninterrupted_one(
    outcome: Any, train: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, interrupt_at=3, config=LORA)
    resumed = train(tmp_path, config=LORA)
    for path in sorted(outcome.out.rglob("*.safetensors")):
        assert path.read_bytes() == (resumed.out / path.relative_to(outcome.out)).read_bytes()
