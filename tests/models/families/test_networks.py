"""Networks from scratch: sizes by arithmetic, equal weights from equal seeds."""

import math
from typing import Any, get_args

import pytest
import torch

from models.families.config import ArchitectureConfig, Family, kind_of
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


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral", "bert", "bart", "transformer"])
def test_model_knows_its_special_tokens_and_context(tokenizer: Any, family: Any) -> None:
    config = ArchitectureConfig(family=family, layers=1, width=16, heads=2, context=32)
    model = build_model(config, tokenizer, seed=0)
    generation = getattr(model, "generation_config", model.config)  # BERT generates nothing
    for settings in (model.config, generation):
        assert settings.pad_token_id == tokenizer.pad_token_id
        assert settings.eos_token_id == tokenizer.eos_token_id
        assert settings.bos_token_id is None
    assert model.config.max_position_embeddings == 32
    if model.config.is_encoder_decoder:
        assert generation.decoder_start_token_id == tokenizer.eos_token_id
        assert generation.forced_eos_token_id is None
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


def test_mixtral_adds_the_load_balancing_loss_of_the_switch_transformer(tokenizer: Any) -> None:
    config = ArchitectureConfig(
        family="mixtral", layers=2, width=16, heads=4, key_value_heads=2, context=32, experts=4
    )
    model = build_model(config, tokenizer, seed=0)
    ids = torch.randint(len(tokenizer), (3, 20), generator=torch.Generator().manual_seed(0))
    found = model(input_ids=ids, labels=ids)
    plain = torch.nn.functional.cross_entropy(
        found.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    )
    # E * sum over experts of (share of tokens that took it) * (mean probability), where a token
    # takes two of four: 2 if even. Shares and means are over both layers together.
    taken, chance = torch.zeros(4), torch.zeros(4)
    for logits in found.router_logits:
        probabilities = logits.detach().softmax(-1)
        for row in probabilities:
            for expert in row.topk(2).indices:
                taken[expert] += 1 / 120
            chance += row / 120
    balance = 4 * float((taken * chance).sum())
    assert found.loss.item() == pytest.approx(plain.item() + 0.01 * balance, abs=1e-5)
    assert 1.9 < balance < 3


def test_transformer_of_2017_has_relu_sinusoids_and_norms_after_its_sublayers(
    tokenizer: Any,
) -> None:
    config = ArchitectureConfig(family="transformer", layers=1, width=16, heads=2, context=32)
    model = build_model(config, tokenizer, seed=0)
    encoder = model.model.encoder
    table = encoder.embed_positions.weight
    assert not table.requires_grad
    # Section 3.5: sines of position / 10000^(2i/16); Marian keeps all sines before all cosines.
    wanted = [math.sin(5 / 10_000 ** (2 * i / 16)) for i in range(8)]
    wanted += [math.cos(5 / 10_000 ** (2 * i / 16)) for i in range(8)]
    torch.testing.assert_close(table[5], torch.tensor(wanted), atol=1e-6, rtol=0)
    layer = encoder.layers[0]
    assert isinstance(layer.activation_fn, torch.nn.ReLU)
    hidden = encoder(torch.tensor([[3, 4, 5]])).last_hidden_state
    torch.testing.assert_close(hidden.mean(-1), torch.zeros(1, 3), atol=1e-5, rtol=0)  # a norm last
    assert model.model.shared.weight is model.model.decoder.embed_tokens.weight


def test_shape_fills_in_what_is_not_given() -> None:
    config = ArchitectureConfig(shape="gpt2-medium", context=256)
    assert (config.family, config.layers, config.width, config.heads) == ("gpt2", 24, 1024, 16)
    assert config.context == 256
    assert ArchitectureConfig.model_validate(config.model_dump()) == config
    assert ArchitectureConfig(family="bert", shape="nano").family == "bert"


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"shape": "gpt2", "family": "llama"}, "shape gpt2 is of family gpt2, got family llama"),
        ({"heads": 4, "key_value_heads": 3}, "key_value_heads 3 does not divide heads 4"),
        ({"family": "gpt2", "key_value_heads": 2}, "in gpt2 each head has its own"),
        ({"family": "mixtral", "experts": 2, "experts_per_token": 3}, "exceeds experts 2"),
        ({"family": "bert", "tied": False}, "bert is built with tied embeddings only"),
    ],
)
def test_architecture_refuses_what_does_not_fit(fields: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        ArchitectureConfig.model_validate(fields)


def test_every_family_has_its_kind() -> None:
    kinds = {family: kind_of(family) for family in get_args(Family)}
    assert [f for f, kind in kinds.items() if kind == "masked"] == ["bert"]
    seq2seq = [f for f, kind in kinds.items() if kind == "seq2seq"]
    assert seq2seq == ["bart", "transformer", "rnn_encoder_decoder", "rnnsearch"]
