"""LoRA in SFT and reward modelling: what learns, what is saved, what is published."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from models.checkpoints import latest
from models.language.config import LoRAConfig, SamplingConfig
from models.language.folders import (
    load_causal_model,
    load_reward_model,
    new_reward_model,
    save_model,
)
from models.language.scoring import score_sequences
from models.reward.config import RewardStageConfig
from models.reward.training import train_reward_model
from models.rows import write_rows
from models.runtime import TrainingRun
from models.training.adapters import (
    add_adapter,
    belongs_on,
    has_adapter,
    learned_state,
    load_adapter,
    publish,
    save_adapter,
    weights_digest,
)
from models.training.config import SFTStageConfig
from models.training.sft import finetune

LORA = LoRAConfig(rank=4, alpha=8.0)
WORDS = ["cat", "dog", "mat", "hill", "day", "sum", "home", "it", "two", "five", "green"]
ROWS = [[5, 6, 7, 8], [9, 4, 2]]
EPOCHS: dict[str, Any] = {
    "epochs": 2.0,
    "batch_size": 4,
    "checkpoint_steps": 2,
    "learning_rate": 1e-2,
    "lora": LORA,
}


@pytest.fixture(scope="module", params=["sft", "reward"])
def stage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def learn(
    stage: str, base_folder: Path, make_run: Callable[..., TrainingRun],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., dict[str, float]]:  # fmt: skip
    """The stage with adapters: 6 steps, checkpoints after 2, 4 and 6."""
    rows = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    answers = {"completion": " on the mat", "chosen": " ran home", "rejected": " slept all day"}
    write_rows(rows, [{"prompt": f"the {word}", **answers} for word in WORDS])

    def run(out: Path, **changes: Any) -> dict[str, float]:
        if stage == "sft":
            return finetune(
                base=base_folder, demonstrations=rows, heldout=rows,
                config=SFTStageConfig(**EPOCHS), run=make_run(out, **changes),
            )  # fmt: skip
        return train_reward_model(
            sft=base_folder, preferences=rows, heldout=rows, prompts=rows, contrasts=None,
            config=RewardStageConfig(**EPOCHS, moment_samples=16),
            sampling=SamplingConfig(max_completion_tokens=4), run=make_run(out, **changes),
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def whole(
    learn: Callable[..., dict[str, float]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, float]]:
    """The published model of a run that nothing disturbed, and its metrics."""
    out = tmp_path_factory.mktemp("whole") / "model"
    return out, learn(out)


def _outputs(network: Any) -> torch.Tensor:
    with torch.no_grad():
        if hasattr(network, "score"):
            return score_sequences(network, ROWS)
        logits: torch.Tensor = network(torch.tensor([ROWS[0]])).logits
        return logits.log_softmax(-1)


def test_stage_publishes_merged_model_and_peft_adapter(
    stage: str, whole: tuple[Path, dict[str, float]], base_folder: Path
) -> None:
    out, metrics = whole
    base: Any
    if stage == "sft":
        base, merged = load_causal_model(base_folder), load_causal_model(out)
        assert metrics["sft/heldout_loss"] < 5.7  # from ln 320 = 5.77
    else:
        base = AutoModelForSequenceClassification.from_pretrained(base_folder, num_labels=1)
        merged = load_reward_model(out)
        assert metrics["reward/accuracy"] == 1.0
    before = _outputs(load_causal_model(base_folder)) if stage == "sft" else torch.zeros(2)
    adapter = out.with_name("model_adapter")
    adapted = PeftModel.from_pretrained(base, str(adapter)).get_base_model().eval()
    torch.testing.assert_close(_outputs(merged), _outputs(adapted), atol=1e-5, rtol=0)
    assert (_outputs(merged) - before).abs().max() > 0.01
    assert not has_adapter(merged)
    described = json.loads((adapter / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == str(base_folder)
    assert described["target_modules"] == sorted(described["target_modules"])
    assert belongs_on(adapter, base_folder)
    assert not belongs_on(adapter, out)
    assert not belongs_on(out, base_folder)


def test_only_linear_layers_of_the_trunk_differ_from_the_base(
    whole: tuple[Path, dict[str, float]], base_folder: Path
) -> None:
    before = load_file(base_folder / "model.safetensors")
    after = load_file(whole[0] / "model.safetensors")
    moved = {name for name in before if name in after and not before[name].equal(after[name])}
    assert moved
    assert all("_proj" in name for name in moved)


def test_checkpoints_hold_only_what_learns(
    stage: str, whole: tuple[Path, dict[str, float]]
) -> None:
    checkpoint = latest(whole[0].with_name("model.checkpoints"))
    assert checkpoint is not None
    names = set(load_file(checkpoint / "learned.safetensors"))
    assert all("lora_" in name for name in names - {"score.weight"})
    assert ("score.weight" in names) == (stage == "reward")
    assert list(checkpoint.glob("*model*")) == []


def test_killed_stage_with_adapters_resumes_to_the_same_bytes(
    learn: Any, whole: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    def die(metrics: Any, step: int) -> None:
        if step == 5:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        learn(tmp_path / "model", log=die)
    steps: list[int] = []
    learn(tmp_path / "model", log=lambda metrics, step: steps.append(step))
    assert min(steps) >= 4  # where the last checkpoint was taken
    for name in ("model/model.safetensors", "model_adapter/adapter_model.safetensors"):
        assert (tmp_path / name).read_bytes() == (whole[0].parent / name).read_bytes()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("score_head", [False, True])
def test_saved_adapter_loads_bit_for_bit(
    make_network: Callable[..., Any], family: str, score_head: bool, base_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    network, other = (make_network(family, score_head=score_head) for _ in range(2))
    add_adapter(network, LORA, seed=1)
    with torch.no_grad():
        for tensor in learned_state(network).values():
            tensor += 0.1
    save_adapter(network, tmp_path, base=base_folder)
    load_adapter(other, tmp_path)
    assert torch.equal(_outputs(network), _outputs(other))
    assert learned_state(network).keys() == learned_state(other).keys()


def test_adapter_of_a_mixture_of_experts_is_published_merged(
    tokenizer: Any, tmp_path: Path
) -> None:
    """Its experts are no linear layers but one tensor of all."""
    config = AutoConfig.for_model(
        "mixtral", vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48,
        num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, num_local_experts=4,
        max_position_embeddings=64,
    )  # fmt: skip
    network = AutoModelForCausalLM.from_config(config).eval()
    save_model(network, tokenizer, tmp_path / "base")
    add_adapter(network, LORA, seed=1)
    assert any("experts" in name for name in learned_state(network))
    with torch.no_grad():
        for tensor in learned_state(network).values():
            tensor += 0.1
    publish(network, tokenizer, tmp_path / "model", base=tmp_path / "base", load=load_causal_model)
    merged, adapted = load_causal_model(tmp_path / "model"), load_causal_model(tmp_path / "base")
    load_adapter(adapted, tmp_path / "model_adapter")
    assert torch.equal(_outputs(adapted), _outputs(network))
    torch.testing.assert_close(_outputs(merged), _outputs(network), atol=1e-5, rtol=0)


def test_digest_of_weights_sees_every_bit(base_folder: Path, tmp_path: Path) -> None:
    model = load_causal_model(base_folder)
    model.save_pretrained(tmp_path / "same")
    assert weights_digest(tmp_path / "same") == weights_digest(base_folder)
    with torch.no_grad():
        model.model.norm.weight[0] += 1e-7
    model.save_pretrained(tmp_path / "other")
    assert weights_digest(tmp_path / "other") != weights_digest(base_folder)


def test_reward_model_of_a_language_model_shares_its_trunk_bit_for_bit(base_folder: Path) -> None:
    one, other = (new_reward_model(base_folder, seed=seed) for seed in (1, 2))
    assert torch.equal(one.model.embed_tokens.weight, other.model.embed_tokens.weight)
    assert not torch.equal(one.score.weight, other.score.weight)
