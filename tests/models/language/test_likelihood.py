"""Perplexity and bits per byte by hand; held-out loss against a slow loop."""

import math
from pathlib import Path

import pytest
import torch

from models.language.folders import load_causal_model
from models.language.likelihood import HeldOutLoss, bits_per_byte, held_out_loss, perplexity


def test_perplexity_of_a_fair_choice_is_the_number_of_choices() -> None:
    # Three tokens of probability 1/8: 3 ln 8 nats, exp(ln 8) = 8.
    assert perplexity(3 * math.log(8), 3) == pytest.approx(8.0)


def test_bits_per_byte_spreads_the_bits_over_the_bytes() -> None:
    # Three tokens of probability 1/8 are 9 bits; they spell 6 bytes: 1.5.
    assert bits_per_byte(3 * math.log(8), 6) == pytest.approx(1.5)


def test_likelihood_is_nan_when_there_is_no_text() -> None:
    assert math.isnan(perplexity(0.0, 0))
    assert math.isnan(bits_per_byte(0.0, 0))


def test_perplexity_is_infinite_when_beyond_the_largest_float() -> None:
    assert perplexity(1000.0, 1) == math.inf
    assert math.isnan(perplexity(math.nan, 1))


def test_held_out_loss_equals_a_loop_over_tokens(
    base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.language.likelihood.HELD_OUT_TOKENS", 16)  # several chunks
    model = load_causal_model(base_folder)
    prompts = [[5, 6, 7], [8], [9, 10]]
    completions = [[11, 1], [12, 13, 14, 15, 1], [1]]
    expected, count = 0.0, 0
    for prompt, completion in zip(prompts, completions, strict=True):
        for at, token in enumerate(completion):
            context = torch.tensor([prompt + completion[:at]])
            logits = model(context).logits[0, -1].double()
            expected -= float(logits[token].detach() - logits.detach().logsumexp(0))
            count += 1
    found = held_out_loss(model, prompts, completions)
    assert found.token_count == count == 8
    # Float32 forward passes of other shapes: 1e-6 relative of eight summed logarithms.
    assert found.nll_sum == pytest.approx(expected, rel=1e-6)
    assert found.mean == pytest.approx(expected / 8, rel=1e-6)


def test_mean_of_no_tokens_is_not_a_number() -> None:
    assert math.isnan(HeldOutLoss(nll_sum=0.0, token_count=0).mean)
