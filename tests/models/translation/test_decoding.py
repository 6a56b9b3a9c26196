"""Beam search and sampling, whatever a model's own config says; alignments by words."""

from typing import Any

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration

from models.families.config import ArchitectureConfig
from models.families.networks import build_model
from models.language.tokenizer import decode_completion, encode_completions
from models.translation.alignment import align_texts
from models.translation.config import DecodingConfig
from models.translation.decoding import translate_texts

SOURCES = ["the cat sat on the mat", "it is five", "a dog ran home over the old green hill", "two"]


@pytest.fixture
def search(tokenizer: Any) -> Any:
    """Weights so large that distributions are far from even."""
    sizes = ArchitectureConfig(family="rnnsearch", layers=1, width=16, heads=2, context=64)
    model = build_model(sizes, tokenizer, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model


def test_published_models_force_no_tokens_of_their_own(tokenizer: Any) -> None:
    (token,) = encode_completions(tokenizer, ["a"])[0][:-1]
    sizes = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}
    sides = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in sizes.items()}
    model = BartForConditionalGeneration(
        BartConfig(vocab_size=len(tokenizer), d_model=16, max_position_embeddings=32, **sides)
    )  # whose config begins with token 2, and forces it at the end
    model.final_logits_bias[0, token] = 1000.0
    config = DecodingConfig(max_tokens=5)
    assert translate_texts(model, tokenizer, ["two"], config, seed=0) == ["aaaaa"]


def test_as_many_beams_as_tokens_find_the_most_probable_translation(
    tokenizer: Any, search: Any
) -> None:
    vocab, eos = len(tokenizer), tokenizer.eos_token_id
    begun = torch.tensor([[eos, token] for token in range(vocab)])
    wanted = []
    for source, ids in zip(SOURCES, encode_completions(tokenizer, SOURCES), strict=True):
        rows = torch.tensor([ids]).expand(vocab, -1)
        logprobs = search(input_ids=rows, decoder_input_ids=begun).logits.log_softmax(-1)
        pairs = logprobs[0, 0, :, None] + logprobs[:, 1]  # (first, second)
        pairs[eos] = float("-inf")
        pairs[eos, eos] = logprobs[0, 0, eos]  # it ends at once
        first, second = divmod(int(pairs.argmax()), vocab)
        wanted.append(decode_completion(tokenizer, [first, second], source))
    config = DecodingConfig(beams=vocab, max_tokens=2, length_penalty=0.0)
    assert translate_texts(search, tokenizer, SOURCES, config, seed=0) == wanted
    greedy = config.model_copy(update={"beams": 1})
    assert translate_texts(search, tokenizer, SOURCES, greedy, seed=0) != wanted


def test_samples_depend_on_the_seed_alone(tokenizer: Any, search: Any) -> None:
    config = DecodingConfig(temperature=1.0, max_tokens=8, batch_size=2)
    torch.manual_seed(1)
    first = translate_texts(search, tokenizer, SOURCES, config, seed=3)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))  # the global state did not move
    assert translate_texts(search, tokenizer, SOURCES, config, seed=3) == first
    assert translate_texts(search, tokenizer, SOURCES, config, seed=4) != first


def test_long_sources_lose_their_end(tokenizer: Any, search: Any) -> None:
    config = DecodingConfig(beams=1, max_tokens=6)
    text = "x" * 63  # of which each is a token; with the EOS the context of 64
    found = translate_texts(search, tokenizer, [text, text + "yz"], config, seed=0)
    assert found[0] == found[1]


def test_alignment_adds_up_pieces_of_words(tokenizer: Any, search: Any) -> None:
    source, target = "over the xylophone", "green xyz hill"
    (found,) = align_texts(search, tokenizer, [source], [target])
    assert found.source == ["over", "the", "xylophone", "EOS"]
    assert found.target == ["green", "xyz", "hill", "EOS"]
    pieces = []
    for text in (source, target):
        words = [text.split(" ")[0], *(f" {word}" for word in text.split(" ")[1:])]
        each = [encode_completions(tokenizer, [word])[0][:-1] for word in words]
        pieces.append([*each, [tokenizer.eos_token_id]])
    ids, labels = ([token for word in side for token in word] for side in pieces)
    given = torch.tensor([[tokenizer.eos_token_id, *labels[:-1]]])
    weights = search(input_ids=torch.tensor([ids]), decoder_input_ids=given).cross_attentions[0]
    row = 0
    for target_word, line in zip(pieces[1], found.weights, strict=True):
        column = 0
        for source_word, value in zip(pieces[0], line, strict=True):
            square = weights[0, 0, row : row + len(target_word), column : column + len(source_word)]
            assert value == pytest.approx(square.sum(1).mean().item(), abs=1e-4)
            column += len(source_word)
        row += len(target_word)


@pytest.mark.parametrize("family", ["bart", "transformer"])
def test_alignment_of_a_transformer_is_the_mean_of_the_last_layers_heads_but_one(
    tokenizer: Any, family: Any
) -> None:
    sizes = ArchitectureConfig(family=family, layers=3, width=16, heads=2, context=64)
    model = build_model(sizes, tokenizer, seed=0)
    layer = model.model.decoder.layers[1].encoder_attn
    with torch.no_grad():
        layer.q_proj.weight.mul_(50)
        layer.k_proj.weight.mul_(50)
    (found,) = align_texts(model, tokenizer, ["12"], ["ab"])  # bytes are tokens, and one word
    ids, labels = encode_completions(tokenizer, ["12", "ab"])
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda module, given, made: seen.append(made[1]))
    given = torch.tensor([[tokenizer.eos_token_id, *labels[:-1]]])
    model(input_ids=torch.tensor([ids]), decoder_input_ids=given)
    handle.remove()
    weights = seen[0][0].mean(0)  # (target, source): 1, 2, EOS by a, b, EOS
    assert found.weights[1] == pytest.approx(
        [weights[2, :-1].sum().item(), weights[2, -1].item()], abs=1e-4
    )
    assert found.weights[0][1] == pytest.approx(weights[:2, -1].mean().item(), abs=1e-4)
    assert abs(found.weights[0][1] - 1 / 3) > 0.01  # which an even spread would give
