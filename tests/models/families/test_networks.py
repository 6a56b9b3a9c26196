"""Networks from scratch: sizes by arithmetic, equal weights from equal seeds."""

from typing import Any

import pytest
import torch

from models.families.config import ArchitectureConfig
from models.families.networks import build_model, parameter_count


def test_llama_has_the_parameters_of_its_sizes(
    tokenizer: Any, tiny_architecture: ArchitectureConfig
) -> None:
    model = build_model(tiny_architecture, tokenizer, seed=0)
    # SwiGLU width: 32 * 8 / 3 = 85.3, up to a multiple of 16: 96.
    assert model.config.intermediate_size == 96
    # A layer: 4 attention matrices 32x32, 3 of the MLP 32x96, 2 norms of 32.
    layer = 4 * 32 * 32 + 3 * 32 * 96 + 2 * 32
    # The tied embedding counts once; one norm at the end.
    assert parameter_count(model) == len(tokenizer) * 32 + 2 * layer + 32


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_model_knows_its_special_tokens_and_context(tokenizer: Any, family: Any) -> None:
    config = ArchitectureConfig(family=family, layers=1, width=16, heads=2, context=32)
    model = build_model(config, tokenizer, seed=0)
    for settings in (model.config, model.generation_config):
        assert settings.pad_token_id == tokenizer.pad_token_id
        assert settings.eos_token_id == tokenizer.eos_token_id
        assert settings.bos_token_id is None
    assert model.config.max_position_embeddings == 32
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    dropouts = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    assert all(rate == 0 for rate in dropouts)


def test_weights_depend_on_the_seed_alone(
    tokenizer: Any, tiny_architecture: ArchitectureConfig
) -> None:
    torch.manual_seed(1)
    first = build_model(tiny_architecture, tokenizer, seed=5)
    after_first = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after_first, torch.rand(1))  # the global state did not move
    second = build_model(tiny_architecture, tokenizer, seed=5)
    other = build_model(tiny_architecture, tokenizer, seed=6)
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)
