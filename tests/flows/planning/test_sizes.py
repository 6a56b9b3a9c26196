"""Sizes are those that torch counts; of a folder they come from headers alone."""

import json
from pathlib import Path

import pytest

from flows.planning.sizes import NetworkSizes, sizes_in, sizes_on_hub, tensor_shapes
from models.errors import ModelError
from models.families.config import ArchitectureConfig


class _Words:
    """As much of a tokenizer as a network from scratch asks for."""

    pad_token_id, eos_token_id = 0, 1

    def __len__(self) -> int:
        return 300


def sizes_of(**fields: object) -> ArchitectureConfig:
    return ArchitectureConfig.model_validate(
        {"layers": 2, "width": 64, "heads": 4, "context": 128, **fields}
    )


@pytest.mark.parametrize(
    "config",
    [
        sizes_of(),
        sizes_of(key_value_heads=2, feed_forward=48, tied=False),
        sizes_of(family="gpt2"),
        sizes_of(family="gpt2", feed_forward=48, tied=False),
        sizes_of(family="mixtral", key_value_heads=1, experts=6, experts_per_token=2),
        sizes_of(family="bert"),
    ],
    ids=lambda config: config.family,
)
def test_sizes_from_scratch_are_those_of_the_network(
    config: ArchitectureConfig, tmp_path: Path
) -> None:
    from models.families.networks import build_model, parameter_count

    model = build_model(config, _Words(), seed=0)
    model.save_pretrained(tmp_path)
    sizes = NetworkSizes.from_scratch(config, 300)
    assert sizes.weights == parameter_count(model)
    assert sizes == sizes_in(tmp_path)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_adapters_have_the_weights_that_sizes_say(family: str) -> None:
    from models.families.networks import build_model
    from models.language.config import LoRAConfig
    from models.training.adapters import add_adapter

    config = sizes_of(family=family, experts=5)
    model = build_model(config, _Words(), seed=0)
    add_adapter(model, LoRAConfig(rank=3), seed=0)
    learned = sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert learned == 3 * NetworkSizes.from_scratch(config, 300).adapted


@pytest.mark.parametrize("family", ["bart", "transformer"])
def test_sizes_of_encoder_and_decoder_are_those_of_the_network(family: str) -> None:
    import torch

    from models.families.networks import build_model, parameter_count

    config = sizes_of(family=family, feed_forward=48)
    model = build_model(config, _Words(), seed=0)
    sizes = NetworkSizes.from_scratch(config, 300)
    assert sizes.weights == parameter_count(model)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    linear = [m for n, m in layers.items() if ".layers." in n]
    assert sizes.linears == len(linear) / 2
    assert sizes.adapted == sum(m.in_features + m.out_features for m in linear)


def test_sizes_of_experts_say_what_computes_a_token() -> None:
    sizes = NetworkSizes.from_scratch(
        sizes_of(family="mixtral", experts=6, experts_per_token=2, feed_forward=32), 300
    )
    # Of each layer four of six experts rest, three matrices of 64 x 32 each.
    assert sizes.weights - sizes.active == 2 * 4 * 3 * 64 * 32
    assert sizes.feed_forward == 2 * 32


def test_sizes_of_grouped_heads_and_an_output_layer_of_its_own(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=100, hidden_size=24, intermediate_size=40, num_hidden_layers=3,
        num_attention_heads=6, num_key_value_heads=2, head_dim=8, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    found = sizes_in(tmp_path)
    assert found is not None
    assert found.weights == sum(one.numel() for one in model.parameters())
    assert (found.attention, found.keys, found.feed_forward) == (48, 16, 40)
    # q, k, v: 24 to 48, 16, 16; o: 48 to 24; gate, up: 24 to 40; down: 40 to 24
    assert found.adapted == 3 * (72 + 40 + 40 + 72 + 64 + 64 + 64)
    assert found.linears == 7


@pytest.mark.parametrize("content", [b"", b"\xff" * 16, b"\x02\0\0\0\0\0\0\0[]"])
def test_no_weights_and_damaged_ones_have_no_sizes(tmp_path: Path, content: bytes) -> None:
    assert sizes_in(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps({"num_hidden_layers": 1}))
    assert sizes_in(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(content)
    assert sizes_in(tmp_path) is None
    with pytest.raises((ValueError, TypeError, AttributeError)):
        tensor_shapes(tmp_path)


def test_a_hub_that_is_not_reached_gives_no_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.hf_api.HfApi.model_info", _no_network)
    with pytest.raises(ModelError, match=r"sizes of some/model@v1 are not known.*no route"):
        sizes_on_hub("some/model@v1")


def _no_network(*_: object, **__: object) -> None:
    raise ConnectionError("no route")
