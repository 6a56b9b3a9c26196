"""Published shapes have the papers' parameters, counted on the meta device."""

from typing import Any

import pytest
import torch

from models.families.config import ArchitectureConfig
from models.families.networks import build_model, parameter_count


class _Words:
    """As much of a tokenizer as a network from scratch asks for."""

    pad_token_id, eos_token_id = 0, 1

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


def network(shape: str, vocabulary: int) -> Any:
    with torch.device("meta"):
        config = ArchitectureConfig.model_validate({"shape": shape})
        return build_model(config, _Words(vocabulary), seed=0)


@pytest.mark.parametrize(
    ("shape", "vocabulary", "exact", "paper"),
    [
        # Radford et al. 2018: 40,000 merges; GPT-1's own network has 116,534,784, without the norm
        # at the end: 2 * 768 weights. The count of 117M is that of the GPT-2 paper, table 2.
        ("gpt1", 40_478, 116_534_784 + 2 * 768, 117e6),
        # Radford et al. 2019, table 2, as corrected in the released code's README.
        ("gpt2", 50_257, 124_439_808, 124e6),
        ("gpt2-medium", 50_257, 354_823_168, 355e6),
        ("gpt2-large", 50_257, 774_030_080, 774e6),
        ("gpt2-xl", 50_257, 1_557_611_200, 1558e6),
        # Devlin et al. 2019, section 3: 110M and 340M, with the heads of pretraining.
        ("bert-base", 30_522, 110_106_428, 110e6),
        ("bert-large", 30_522, 336_226_108, 340e6),
        # The README of the released BART: 140M and 400M, rounded to tens of millions.
        ("bart-base", 50_265, 139_420_416, 139e6),
        ("bart-large", 50_265, 406_291_456, 406e6),
        # Touvron et al. 2023, table 2.
        ("llama-7b", 32_000, 6_738_415_616, 6.7e9),
        ("llama-13b", 32_000, 13_015_864_320, 13.0e9),
        ("llama-30b", 32_000, 32_528_943_616, 32.5e9),
        ("llama-65b", 32_000, 65_285_660_672, 65.2e9),
    ],
)
def test_published_shapes_have_the_papers_parameters(
    shape: str, vocabulary: int, exact: int, paper: float
) -> None:
    found = parameter_count(network(shape, vocabulary))
    assert found == exact
    # Papers round to two or three digits (65.29 became 65.2, 336 became 340): 1.2% at most.
    assert found == pytest.approx(paper, rel=0.012)


def test_bert_without_its_heads_has_the_trunk_that_is_often_counted() -> None:
    # The trunk with its pooler: 109.5M and 335.1M.
    assert parameter_count(network("bert-base", 30_522).bert) == 109_482_240
    assert parameter_count(network("bert-large", 30_522).bert) == 335_141_888


@pytest.mark.parametrize("size", ["nano", "micro", "tiny", "small", "medium", "large", "1b"])
def test_sizes_grow_and_1b_has_a_billion_weights_in_its_blocks(size: str) -> None:
    config = ArchitectureConfig.model_validate({"shape": size})
    blocks = 12 * config.layers * config.width**2  # attention 4 W^2, feed-forward 8 W^2
    wanted = {"nano": 0.4e6, "micro": 1.8e6, "tiny": 4.7e6, "small": 25e6, "medium": 85e6,
              "large": 302e6, "1b": 1.0e9}  # fmt: skip
    assert blocks == pytest.approx(wanted[size], rel=0.03)
