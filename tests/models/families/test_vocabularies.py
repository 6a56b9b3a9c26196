"""All kinds of tokenizers: exact round trips, equal vocabularies from equal texts, masks."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.families import vocabularies
from models.families.vocabularies import learn_vocabulary, training_texts
from models.language.config import TokenizerConfig
from models.language.folders import load_tokenizer
from models.language.tokenizer import (
    decode_completion,
    encode_completion,
    encode_prompt,
    encode_texts,
    train_tokenizer,
)
from models.rows import write_rows

KINDS = ("wordpiece", "unigram")


@pytest.fixture(scope="module", params=KINDS)
def trained(
    request: pytest.FixtureRequest, corpus_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    out = tmp_path_factory.mktemp(request.param)
    config = TokenizerConfig(kind=request.param, vocab_size=640, mask=True)
    metrics = train_tokenizer(corpus=corpus_file, config=config, context=64, out=out)
    found = load_tokenizer(out, wants_template=True)
    assert metrics["tokenizer/vocab_size"] == len(found) <= 640
    assert metrics["tokenizer/bytes_per_token"] > 1.2  # bytes alone would be 1
    return found


@given(text=st.text())
def test_tokenizer_of_any_kind_gives_any_unicode_back(trained: Any, text: str) -> None:
    ids = encode_completion(trained, text)
    assert decode_completion(trained, ids, "") == text


@pytest.mark.parametrize(
    "text",
    ["###", "a##b", "##", "the ##cat", "<|mask|>", "ÿ\x00\x85\r\n", "x" * 350, "naïve 世界 🧑‍🚀"],
)
def test_tokenizer_of_any_kind_gives_odd_text_back(trained: Any, text: str) -> None:
    [ids] = encode_texts(trained, [text])
    assert trained.decode(ids) == text
    assert not set(ids) & set(trained.all_special_ids)


def test_tokenizer_of_any_kind_has_its_special_tokens_first_and_the_chat_template(
    trained: Any,
) -> None:
    special = ["<|pad|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>"]
    masking = [trained.mask_token, trained.cls_token, trained.sep_token]
    assert masking == ["<|mask|>", "<|cls|>", "<|sep|>"]
    assert trained.convert_tokens_to_ids([*special, *masking]) == list(range(8))
    ids = encode_prompt(trained, [{"role": "user", "content": "the cat"}], 64)
    assert (ids[0], ids[-1]) == (3, 4)


@pytest.mark.parametrize("kind", ["byte_bpe", *KINDS])
def test_equal_texts_give_equal_vocabularies(kind: Any) -> None:
    texts = ["the cat sat on the mat", "a dog ran home over the old hill", "the hat of the cat"] * 9

    def learn() -> str:
        found = learn_vocabulary(
            kind, lambda: iter(texts), size=560, min_frequency=2, special_tokens=["<p>", "<e>"]
        )
        return str(found.to_str())

    assert learn() == learn()


def test_wordpiece_takes_the_longest_piece_first_and_marks_what_continues_a_word() -> None:
    found = learn_vocabulary(
        "wordpiece",
        lambda: iter(["low lower lowest"] * 5),
        size=530,
        min_frequency=2,
        special_tokens=["<p>"],
    )
    # 1 special token, 256 bytes that begin words and 255 that continue them leave 18 to learn.
    assert found.get_vocab_size() <= 530
    assert found.encode("low").tokens == ["low"]
    tokens = found.encode("lowz").tokens
    assert tokens[0] == "low"
    assert tokens[1:] == ["##z"]
    assert found.decode(found.encode("lowz").ids) == "lowz"


def test_unigram_takes_the_likeliest_pieces() -> None:
    texts = ["abab abab ab abab"] * 20
    found = learn_vocabulary(
        "unigram", lambda: iter(texts), size=300, min_frequency=1, special_tokens=["<p>"]
    )
    scores = dict(map(tuple, json.loads(found.to_str())["model"]["vocab"]))

    def best(word: str) -> float:  # by trying every cut: an oracle of its own
        options = [scores[word]] if word in scores else []
        options += [
            scores[word[:at]] + best(word[at:]) for at in range(1, len(word)) if word[:at] in scores
        ]
        return max(options, default=float("-inf"))

    for word in ("abab", "bab", "aab", "bbaba"):
        tokens = found.encode(word).tokens
        assert "".join(tokens) == word
        assert sum(scores[token] for token in tokens) == pytest.approx(best(word))


def test_default_tokenizer_has_no_masking_tokens(tokenizer: Any) -> None:
    assert (tokenizer.mask_token, tokenizer.cls_token, tokenizer.sep_token) == (None, None, None)


def test_masking_tokens_leave_the_other_tokens_of_byte_bpe(
    tokenizer: Any, corpus_file: Path, tmp_path: Path
) -> None:
    config = TokenizerConfig(vocab_size=323, mask=True)  # three more than the default's 320
    train_tokenizer(corpus=corpus_file, config=config, context=64, out=tmp_path)
    masking = load_tokenizer(tmp_path)
    words = [masking.convert_ids_to_tokens(one) for one in range(8, len(masking))]
    assert words == [tokenizer.convert_ids_to_tokens(one) for one in range(5, len(tokenizer))]


def test_wordpiece_refuses_a_vocabulary_without_room_for_bytes() -> None:
    with pytest.raises(ValueError, match="vocab_size 500 is too small for wordpiece"):
        TokenizerConfig(kind="wordpiece", vocab_size=500)


@pytest.mark.parametrize(
    ("limit", "stride"),
    [
        # 64 words of 10 bytes, a document each, in rows of 22 bytes and a line's end.
        (640, 1),
        (639, 2),
        (319, 4),
        (160, 4),
        (159, 8),
    ],
)
def test_too_many_distinct_words_are_halved_until_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, stride: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    texts = [f"{number:010}" for number in range(64)]
    write_rows(tmp_path / "c.jsonl", [{"text": text} for text in texts])
    monkeypatch.setattr(vocabularies, "DISTINCT_BYTES", limit)
    assert list(training_texts(tmp_path / "c.jsonl")) == texts[::stride]
    assert (f"learned from 1 in {stride} documents of c.jsonl" in caplog.text) == (stride > 1)


def test_words_that_repeat_are_all_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["the cat sat on", "the mat and sat"] * 50
    write_rows(tmp_path / "c.jsonl", [{"text": text} for text in texts])
    monkeypatch.setattr(vocabularies, "DISTINCT_BYTES", 17)  # the, cat, sat, on, mat, and
    assert list(training_texts(tmp_path / "c.jsonl")) == texts


def test_one_huge_document_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "c.jsonl", [{"text": "abc" * 100}])
    monkeypatch.setattr(vocabularies, "DISTINCT_BYTES", 10)
    assert list(training_texts(tmp_path / "c.jsonl")) == ["abc" * 100]
