"""Operations per token: those that torch counts in a forward pass, and 6 N."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.families.config import ArchitectureConfig
from models.families.flops import flops_per_token
from models.families.networks import build_model

TOKENS = 24


def network(tokenizer: Any, family: str, **fields: Any) -> Any:
    sizes = {"layers": 2, "width": 32, "heads": 4, "context": 64, **fields}
    config = ArchitectureConfig.model_validate({"family": family, **sizes})
    return build_model(config, tokenizer, seed=0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", "bert", "bart", "transformer"])
def test_operations_are_those_that_torch_counts(tokenizer: Any, family: str) -> None:
    grouped = {"key_value_heads": 2} if family in ("llama", "mixtral") else {}
    model = network(tokenizer, family, **grouped)
    model.set_attn_implementation("eager")  # whose products are counted
    if family == "mixtral":
        model.set_experts_implementation("eager")
    ids = torch.randint(5, len(tokenizer), (3, TOKENS), generator=torch.Generator().manual_seed(0))
    both = {"labels": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, **both)
    found = flops_per_token(model, TOKENS).forward
    assert found * 3 * TOKENS == pytest.approx(counter.get_total_flops(), rel=1e-9)


def test_training_takes_six_operations_per_weight_and_token(tokenizer: Any) -> None:
    model = network(tokenizer, "llama", width=256, heads=4, tied=False)
    found = flops_per_token(model, TOKENS)
    table = model.get_input_embeddings().weight.numel()
    weights = sum(one.numel() for one in model.parameters() if one.dim() > 1) - table
    assert found.training == 6 * weights + 3 * 4 * 2 * TOKENS * 256  # of two layers


def test_experts_that_rest_cost_nothing(tokenizer: Any) -> None:
    few, many = (network(tokenizer, "mixtral", experts=count) for count in (2, 8))
    rise = flops_per_token(many, TOKENS).forward - flops_per_token(few, TOKENS).forward
    assert rise == 2 * 2 * 6 * 32  # two routers with six more rows of 32


def test_operations_of_yardsticks_by_hand(tokenizer: Any) -> None:
    width, words = 32, len(tokenizer)
    head = width * words
    recurrent = network(tokenizer, "lstm")
    assert flops_per_token(recurrent, TOKENS).forward == 2 * (2 * 4 * 2 * width**2 + head)
    searching = flops_per_token(network(tokenizer, "rnnsearch", layers=1), TOKENS)
    encoder = 2 * 3 * (width * width // 2 + (width // 2) ** 2)  # two directions of half the width
    decoder = 3 * (2 * width * width + width**2) + 3 * width * width + head
    found = 2 * width * width  # query and key
    once = width * width / TOKENS
    assert searching.weights + searching.attention == pytest.approx(
        2 * (encoder + decoder + found + once) + 4 * TOKENS * width
    )
