"""Weights in bfloat16 and their masters: nothing of a step is lost, and a resume is exact."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.errors import ModelError
from models.language.sequences import Sequences, sequence_scores
from models.training.memory import (
    MasterAdamW,
    learned_weights,
    lowered,
    master_of,
    recompute_activations,
    restore_float32,
)

SETTINGS: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "weight_decay": 0.1, "fused": True}


def _linear() -> torch.nn.Linear:
    layer = torch.nn.Linear(8, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-2, 2, 32).reshape(4, 8))
        layer.bias.zero_()
    return layer


def _push(layer: torch.nn.Linear, step: int) -> None:
    """Give weights gradients that bfloat16 holds exactly, in two micro-batches."""
    for part in range(2):
        slope = torch.arange(32.0).reshape(4, 8) % (5 + part) - 2 + step
        loss = (layer.weight * slope).sum() + layer.bias.sum()
        loss.backward()  # type: ignore[no-untyped-call]


def test_masters_move_as_float32_weights_do_and_weights_are_their_roundings() -> None:
    plain, lowered = _linear(), _linear()
    one = torch.optim.AdamW(plain.parameters(), **SETTINGS)
    two = MasterAdamW(lowered.parameters(), network=lowered, **SETTINGS)
    for step in range(5):
        for layer, optimizer in ((plain, one), (lowered, two)):
            _push(layer, step)
            torch.nn.utils.clip_grad_norm_(learned_weights(layer), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    for wanted, weight in zip(plain.parameters(), lowered.parameters(), strict=True):
        assert weight.dtype == torch.bfloat16
        assert torch.equal(master_of(weight), wanted)
        assert torch.equal(weight, wanted.bfloat16())
        assert weight.grad is None
    restore_float32(lowered)
    for wanted, weight in zip(plain.parameters(), lowered.parameters(), strict=True):
        assert torch.equal(weight, wanted)


def test_steps_and_gradients_too_small_for_bfloat16_add_up() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(layer.weight)
    optimizer = MasterAdamW(layer.parameters(), network=layer, lr=1e-4, weight_decay=0.0)
    for slope in (1.0, *[2**-9] * 64):  # 1 + 2**-9 is 1 in bfloat16
        (layer.weight.sum() * slope).backward()
    (master,) = learned_weights(layer)
    assert master.grad is not None
    assert master.grad.item() == 1.0 + 64 * 2**-9
    for _ in range(40):  # each step is 1e-4: 1 - 1e-4 is 1 in bfloat16
        layer.weight.sum().backward()
        optimizer.step()
    assert layer.weight.item() == pytest.approx(1 - 40e-4, abs=2**-9)
    assert layer.weight.item() < 1.0


def test_optimiser_resumes_from_its_state_to_the_bit() -> None:
    whole, torn = _linear(), _linear()
    first = MasterAdamW(whole.parameters(), network=whole, **SETTINGS)
    for step in range(2):
        _push(whole, step)
        first.step()
    second = MasterAdamW(torn.parameters(), network=torn, **SETTINGS)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for layer, optimizer in ((whole, first), (torn, second)):
        _push(layer, 3)
        optimizer.step()
    for one, other in zip(whole.parameters(), torn.parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(master_of(one), master_of(other))


def test_scores_of_a_bfloat16_trunk_are_float32(make_network: Callable[..., Any]) -> None:
    network = make_network("llama", score_head=True)
    MasterAdamW(network.parameters(), network=network)
    assert network.model.layers[0].mlp.up_proj.weight.dtype == torch.bfloat16
    assert network.score.weight.dtype == torch.float32
    rows = Sequences.from_lists([[2]] * 50, [[3 + n % 13, 3 + n // 13] for n in range(50)])
    scores = sequence_scores(network, rows)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16())  # finer than bfloat16 can tell


def test_lowered_weights_are_those_that_learning_begins_with_and_come_back(
    make_network: Callable[..., Any],
) -> None:
    first, other = (make_network("llama", score_head=True) for _ in range(2))
    precise = [weight.detach().clone() for weight in first.parameters()]
    MasterAdamW(other.parameters(), network=other, lr=0.1)
    with lowered(first):
        for one, wanted in zip(first.parameters(), other.parameters(), strict=True):
            assert one.dtype == wanted.dtype
            assert torch.equal(one, wanted)
    assert all(map(torch.equal, first.parameters(), precise))


def test_network_that_cannot_recompute_is_named(make_network: Callable[..., Any]) -> None:
    network = make_network("llama")
    network.supports_gradient_checkpointing = False  # as of models that transformers says so of
    with pytest.raises(ModelError, match="LlamaForCausalLM cannot recompute"):
        recompute_activations(network)
