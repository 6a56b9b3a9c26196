"""Measures without a judge, against loops in float64 and numbers by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.errors import DataError, ParameterError
from models.evaluation.texts import bleu, rouge
from models.language.likelihood import text_likelihood
from models.language.tokenizer import encode_texts

TEXTS = [
    "the cat sat on the mat and slept all day. " * 4,
    "你好，世界。今天天气很好。",
    "",
    "a dog ran home",
]


@pytest.fixture(scope="module")
def network(tokenizer: Any, make_network: Callable[..., Any]) -> Any:
    return make_network("llama", vocab=len(tokenizer), context=64, spread=0.3)


def loop_nll(model: Any, ids: list[int], window: int, stride: int) -> float:
    """Token by token: which tokens each one may see, then the model's own forward on these."""
    total = 0.0
    for target in range(1, len(ids)):
        end = min(len(ids), window)  # of the window that predicts this token
        while end <= target:
            end = min(len(ids), end + stride)
        seen = ids[max(0, end - window) : target]
        logits = model(input_ids=torch.tensor([seen])).logits[0, -1].double()
        total -= float(logits.log_softmax(-1)[ids[target]])
    return total


@pytest.mark.parametrize(("window", "stride"), [(None, None), (16, 8), (16, 1), (16, 15), (7, 3)])
def test_text_likelihood_equals_a_loop_over_tokens(
    network: Any, tokenizer: Any, window: int | None, stride: int | None
) -> None:
    found = text_likelihood(network, tokenizer, TEXTS, window=window, stride=stride)
    encoded = encode_texts(tokenizer, TEXTS)
    with torch.no_grad():
        wanted = sum(
            loop_nll(network, [tokenizer.eos_token_id, *ids], window or 64, stride or 32)
            for ids in encoded
        )
    # Float32 forwards, packed against single: 1e-5 relative is their rounding.
    assert found.nll_sum == pytest.approx(wanted, rel=1e-5)
    assert found.token_count == sum(len(ids) for ids in encoded)
    # 42 letters four times; 13 Chinese characters of 3 bytes; 14 letters.
    assert found.byte_count == 4 * 42 + 13 * 3 + 14
    assert len(encoded[0]) > 16  # so that windows do overlap


def test_perplexity_and_bits_per_byte_follow_from_the_sum(network: Any, tokenizer: Any) -> None:
    found = text_likelihood(network, tokenizer, TEXTS)
    assert found.perplexity == pytest.approx(math.exp(found.nll_sum / found.token_count))
    assert found.bits_per_byte == pytest.approx(found.nll_sum / math.log(2) / 221)


def test_perplexity_of_a_model_that_knows_nothing_is_its_vocabulary(
    tokenizer: Any, make_network: Callable[..., Any]
) -> None:
    model = make_network("llama", vocab=len(tokenizer))
    torch.nn.init.zeros_(model.get_output_embeddings().weight)  # equal logits everywhere
    assert text_likelihood(model, tokenizer, TEXTS).perplexity == pytest.approx(len(tokenizer))


def test_perplexity_of_no_text_is_nan(network: Any, tokenizer: Any) -> None:
    assert math.isnan(text_likelihood(network, tokenizer, []).perplexity)
    assert math.isnan(text_likelihood(network, tokenizer, [""]).bits_per_byte)


@pytest.mark.parametrize(("window", "stride"), [(65, 8), (1, 1), (16, 16), (16, 0)])
def test_text_likelihood_refuses_windows_that_do_not_fit(
    network: Any, tokenizer: Any, window: int, stride: int
) -> None:
    with pytest.raises(ParameterError, match=r"context of 64 tokens"):
        text_likelihood(network, tokenizer, TEXTS, window=window, stride=stride)


# --- agreement with references ------------------------------------------------------------------


def test_bleu_by_hand() -> None:
    # Precisions: 1-grams 5/6, 2-grams 3/5, 3-grams 2/4, 4-grams 1/3; lengths equal: no penalty.
    # The second of two references only adds what is not there.
    completion, reference = "the cat sat on a mat", "the cat sat on the mat"
    wanted = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert bleu([completion], [reference]) == pytest.approx(wanted)
    assert bleu([completion], [[reference, "no words shared at all here"]]) == pytest.approx(wanted)


def test_bleu_pools_the_corpus_and_punishes_shortness() -> None:
    # All n-grams of both completions are in their references (4+4, 3+3, 2+2, 1+1): precision 1.
    # 8 tokens against 12: exp(1 - 12/8).
    completions = ["a b c d", "e f g h"]
    references = ["a b c d x y", "e f g h x y"]
    assert bleu(completions, references) == pytest.approx(100 * math.exp(-0.5))


def test_bleu_takes_references_of_unequal_number() -> None:
    assert bleu(["a b c d", "e f g h"], [["x", "a b c d"], ["e f g h"]]) == pytest.approx(100)


def test_bleu_reads_chinese() -> None:
    assert bleu(["今天天气很好"], ["今天天气很好"], tokenize="zh") == pytest.approx(100)


def test_rouge_by_hand() -> None:
    # Words the cat sat / the cat ran home: overlap 2 of 3 and of 4: F = 2·(2/3)(1/2)/(7/6) = 4/7.
    # Pairs: the-cat is 1 of 2 and of 3: F = 2·(1/2)(1/3)/(5/6) = 2/5. LCS the cat: as unigrams.
    found = rouge(["the cat sat"], ["The cat ran home."])
    assert found == pytest.approx({"rouge1": 4 / 7, "rouge2": 2 / 5, "rougeL": 4 / 7})


def test_rouge_takes_the_best_reference_and_the_mean_over_completions() -> None:
    # First: LCS of "b a" and "a b" is one word: 1/2, but both words are there: 1; second: 0.
    found = rouge(["b a", "c"], [["x", "a b"], ["d"]])
    assert found == pytest.approx({"rouge1": 0.5, "rouge2": 0.0, "rougeL": 0.25})


def test_rouge_reads_characters_where_there_are_no_spaces() -> None:
    # 你好 of 你好吗: precision 1, recall 2/3: F = 4/5.
    assert rouge(["你好"], ["你好吗"], tokens="characters")["rouge1"] == pytest.approx(0.8)
    # As words there is nothing to measure, not even where a completion is the reference.
    assert all(math.isnan(value) for value in rouge(["你好", "да"], ["你好", "да"]).values())
    assert rouge(["да", "a b"], ["да", "a c"])["rouge1"] == 0.5  # of the second alone


@pytest.mark.parametrize("measure", [bleu, rouge])
def test_references_must_stand_beside_completions(measure: Any) -> None:
    with pytest.raises(DataError, match=r"2 completions and 1 references"):
        measure(["a", "b"], ["a"])
    with pytest.raises(DataError, match=r"completion 1 has no reference"):
        measure(["a", "b"], [["a"], []])


def test_agreement_of_nothing_is_nan() -> None:
    assert math.isnan(bleu([], []))
    assert all(math.isnan(value) for value in rouge([], []).values())
