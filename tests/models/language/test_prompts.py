"""Prompts that fit a model's context, and completions as texts."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import ParameterError
from models.language.config import SamplingConfig
from models.language.folders import load_causal_model, save_model
from models.language.generation import complete, encode_to_fit
from models.language.tokenizer import decode_completion, encode_prompts

PROMPTS: list[Any] = ["the cat", "what is the sum of two and three?", "a dog ran home"]
SAMPLING = SamplingConfig(temperature=0.6, max_completion_tokens=10, batch_size=5)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Any], tokenizer: Any
) -> Path:
    """The folder of a model far from uniform."""
    out = tmp_path_factory.mktemp("policies")
    model = make_network("llama", vocab=len(tokenizer), seed=0, spread=0.2)
    model.config.pad_token_id = tokenizer.pad_token_id
    save_model(model, tokenizer, out)
    return out


def test_completions_are_texts_in_the_order_of_the_prompts(folder: Path, tokenizer: Any) -> None:
    """With almost no temperature each prompt has one completion: the greedy one."""
    cold = SamplingConfig(temperature=1e-4, max_completion_tokens=5, batch_size=2)
    said = complete(model=folder, prompts=PROMPTS, sampling=cold, seed=0, device="cpu")
    model = load_causal_model(folder)
    for prompt, sampled in zip(PROMPTS, said, strict=True):
        (ids,) = encode_prompts(tokenizer, [prompt], 50)
        grown = list(ids)
        for _ in range(5):
            with torch.no_grad():
                grown.append(int(model(torch.tensor([grown])).logits[0, -1].argmax()))
        assert sampled.text == decode_completion(tokenizer, grown[len(ids) :], prompt)
        assert sampled.finished == (tokenizer.eos_token_id in grown[len(ids) :])
    assert len({sampled.text for sampled in said}) > 1


def test_completions_take_messages(folder: Path) -> None:
    prompts = [[{"role": "user", "content": text}] for text in PROMPTS]
    texts = complete(model=folder, prompts=prompts, sampling=SAMPLING, seed=0, device="cpu")
    assert len(texts) == len(PROMPTS)


def test_long_prompts_lose_their_beginning_with_a_warning(
    folder: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_causal_model(folder)
    long = "the cat sat on the mat and slept all day. " * 20
    with caplog.at_level(logging.WARNING):
        short, cut = encode_to_fit(tokenizer, model, ["the cat", long], SAMPLING)
    whole = encode_prompts(tokenizer, ["the cat", long], 10_000)
    assert short == whole[0]
    assert cut == whole[1][-54:]  # a context of 64 less the longest completion of 10
    assert "1 of 2 prompts are too long" in caplog.text


def test_fitting_prompts_are_encoded_without_a_warning(
    folder: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_causal_model(folder)
    assert encode_to_fit(tokenizer, model, PROMPTS, SAMPLING) == encode_prompts(
        tokenizer, PROMPTS, 10_000
    )
    assert caplog.text == ""


def test_completions_that_fill_the_context_are_refused(folder: Path, tokenizer: Any) -> None:
    model = load_causal_model(folder)
    full = SamplingConfig(max_completion_tokens=64)
    with pytest.raises(ParameterError, match=r"64 leaves no room .* context of 64; .* at most 63"):
        encode_to_fit(tokenizer, model, PROMPTS, full)
