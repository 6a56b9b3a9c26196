"""The recurrent and feed-forward networks against the equations that their modules state."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.families.config import ArchitectureConfig
from models.families.networks import build_model
from models.language.folders import load_causal_model, load_seq2seq_model, save_model

LANGUAGE = ("feedforward", "rnn", "lstm")
TRANSLATORS = ("rnn_encoder_decoder", "rnnsearch")
SOURCE = torch.tensor([[7, 300, 12, 9, 1], [8, 11, 1, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
TARGET = torch.tensor([[1, 40, 41, 42], [1, 50, 51, 52]])


def make(family: Any, tokenizer: Any, layers: int = 1) -> Any:
    """A network whose weights and biases are all large enough to matter."""
    sizes = ArchitectureConfig(family=family, layers=layers, width=16, heads=2, context=32)
    model = build_model(sizes, tokenizer, seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def gates(cell: Any, x: Tensor, h: Tensor, way: str = "") -> tuple[list[Tensor], list[Tensor]]:
    """W x + b and U h + b, split by gate."""
    weights = [getattr(cell, f"{name}_l0{way}") for name in ("weight_ih", "weight_hh")]
    biases = [getattr(cell, f"{name}_l0{way}") for name in ("bias_ih", "bias_hh")]
    size = weights[1].shape[1]
    given = [w @ v + b for w, v, b in zip(weights, (x, h), biases, strict=True)]
    return list(given[0].split(size)), list(given[1].split(size))


def gru(cell: Any, x: Tensor, h: Tensor, way: str = "") -> Tensor:
    """One step, as Cho et al. (2014), equations 5 to 8, with the reset inside as in cuDNN."""
    (xr, xz, xn), (hr, hz, hn) = gates(cell, x, h, way)
    reset, update = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
    return (1 - update) * torch.tanh(xn + reset * hn) + update * h


@pytest.mark.parametrize("family", LANGUAGE)
def test_language_model_computes_its_equations(tokenizer: Any, family: str) -> None:
    model = make(family, tokenizer)
    trunk, output = model.model, model.model.embed_tokens.weight
    table = 4 * output  # the root of the width
    ids = torch.tensor([5, 9, 300, 7, 7, 2, 11])
    h = c = torch.zeros(16)
    wanted = []
    for place, token in enumerate(ids.tolist()):
        if family == "feedforward":
            window = [
                table[ids[at]] if at >= 0 else torch.zeros(16) for at in range(place - 4, place + 1)
            ]
            weight = trunk.layers[0].weight.view(16, 16, 5)  # (hidden, width, window)
            h = torch.tanh(
                torch.einsum("hwn,nw->h", weight, torch.stack(window)) + trunk.layers[0].bias
            )
        elif family == "rnn":
            (x,), (u,) = gates(trunk.layers[0], table[token], h)
            h = torch.tanh(x + u)
        else:
            x, u = gates(trunk.layers[0], table[token], h)
            i, f, g, o = (one + two for one, two in zip(x, u, strict=True))
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        wanted.append(output @ h + model.lm_head.bias)
    assert torch.allclose(model(ids[None]).logits[0], torch.stack(wanted), atol=1e-4)


@pytest.mark.parametrize("family", TRANSLATORS)
def test_translator_computes_its_equations(tokenizer: Any, family: str) -> None:
    model = make(family, tokenizer)
    found = model(input_ids=SOURCE, attention_mask=MASK, decoder_input_ids=TARGET)
    output, cell = model.embed_tokens.weight, model.encoder.layers[0]
    table = 4 * output  # the root of the width
    for row, length in enumerate((5, 3)):
        tokens = [table[token] for token in SOURCE[row, :length]]
        size = cell.weight_hh_l0.shape[1]
        ahead, state = [], torch.zeros(size)
        for token in tokens:
            state = gru(cell, token, state)
            ahead.append(state)
        if family == "rnnsearch":
            back, state = [], torch.zeros(size)
            for token in reversed(tokens):
                state = gru(cell, token, state, "_reverse")
                back.insert(0, state)
            h = [torch.cat(pair) for pair in zip(ahead, back, strict=True)]
            s = torch.tanh(model.first_state(h[0]))
        else:
            context = ahead[-1]
            s = torch.tanh(model.first_state(context))
        for step, token in enumerate(TARGET[row]):
            if family == "rnnsearch":
                scores = [
                    model.score.weight[0] @ torch.tanh(model.query.weight @ s + model.key(one))
                    for one in h
                ]
                weights = torch.stack(scores).softmax(0)
                context = sum((a * one for a, one in zip(weights, h, strict=True)), torch.zeros(16))
                seen = found.cross_attentions[0][row, 0, step]
                assert torch.allclose(seen[:length], weights, atol=1e-5)
                assert not seen[length:].any()
            s = gru(model.cell, torch.cat([table[token], context]), s)
            hidden = torch.tanh(model.project(torch.cat([s, table[token], context])))
            assert torch.allclose(
                found.logits[row, step], output @ hidden + model.lm_head.bias, atol=1e-4
            )
    assert (found.cross_attentions is not None) == (family == "rnnsearch")


@pytest.mark.parametrize("family", LANGUAGE + TRANSLATORS)
def test_folder_gives_the_same_weights_back(tokenizer: Any, tmp_path: Path, family: str) -> None:
    model = make(family, tokenizer, layers=2)  # whose weights initialisation would not draw
    save_model(model, tokenizer, tmp_path)
    load = load_causal_model if family in LANGUAGE else load_seq2seq_model
    again = load(tmp_path)
    assert type(again) is type(model)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    for (name, one), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("family", LANGUAGE + TRANSLATORS)
def test_weights_depend_on_the_seed_alone(tokenizer: Any, family: Any) -> None:
    sizes = ArchitectureConfig(family=family, layers=2, width=16, heads=2, context=32)
    first, second, other = (build_model(sizes, tokenizer, seed=seed) for seed in (5, 5, 6))
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize("family", TRANSLATORS)
def test_generation_keeps_the_state_of_the_right_beam(tokenizer: Any, family: str) -> None:
    model = make(family, tokenizer)
    settings: dict[str, Any] = {"num_beams": 4, "max_new_tokens": 6, "do_sample": False}
    settings |= {"return_dict_in_generate": True, "output_scores": True, "length_penalty": 0.0}
    found = model.generate(input_ids=SOURCE, attention_mask=MASK, **settings)
    labels = found.sequences[:, 1:]
    whole = model(input_ids=SOURCE, attention_mask=MASK, decoder_input_ids=found.sequences[:, :-1])
    logprobs = whole.logits.log_softmax(-1).gather(2, labels[..., None]).squeeze(2)
    ended = (labels == tokenizer.eos_token_id).cumsum(1).cumsum(1) > 1  # padding behind the EOS
    assert torch.allclose(logprobs.masked_fill(ended, 0).sum(1), found.sequences_scores, atol=1e-4)
    greedy = model.generate(
        input_ids=SOURCE, attention_mask=MASK, max_new_tokens=6, do_sample=False
    )
    assert not torch.equal(greedy, found.sequences)  # else beams were of no use here


@pytest.mark.parametrize("family", LANGUAGE + TRANSLATORS)
def test_second_layer_is_added_to_the_first(tokenizer: Any, family: str) -> None:
    model = make(family, tokenizer, layers=2)
    trunk = model.model if family in LANGUAGE else model.encoder
    of_two = trunk(SOURCE).last_hidden_state
    layer = trunk.layers[1]
    del trunk.layers[1]
    of_one = trunk(SOURCE).last_hidden_state
    added = torch.tanh(layer(of_one)) if family == "feedforward" else layer(of_one)[0]
    assert torch.allclose(of_two, of_one + added, atol=1e-5)
