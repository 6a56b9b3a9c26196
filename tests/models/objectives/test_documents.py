"""Pieces of documents: nothing lost, words and sentences where they begin."""

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DataError
from models.language.tokenizer import encode_texts
from tests.models.objectives.tiny import make_pieces, make_tokenizer, seeded

TEXT = st.text(alphabet="ab .!\n'é好。", max_size=40)


CORPUS = ["the cat sat on the mat and slept.", "a dog ran home!"] * 3


@pytest.fixture(scope="module", params=["byte_bpe", "wordpiece", "unigram"])
def any_encoder(request: pytest.FixtureRequest) -> Any:
    return make_tokenizer(CORPUS, 600, request.param)


@pytest.fixture(scope="module")
def encoder() -> Any:
    return make_tokenizer(CORPUS)


@given(texts=st.lists(TEXT, min_size=1, max_size=5), room=st.integers(1, 20))
def test_pieces_are_the_documents_with_the_tokenizers_words(
    any_encoder: Any, tmp_path_factory: Any, texts: list[str], room: int
) -> None:
    encoder = any_encoder
    pieces = make_pieces(encoder, tmp_path_factory.mktemp("rows"), texts, room)
    found = [pieces[number] for number in range(len(pieces))]
    assert [id for piece in found for id in piece.ids] == list(chain(*encode_texts(encoder, texts)))
    assert all(0 < len(piece) <= room for piece in found)
    assert pieces.lengths == [len(piece) for piece in found]
    begins = []  # the slow oracle: a word begins where the tokenizer's number of it changes
    for text in texts:
        words = encoder(text, add_special_tokens=False).word_ids()
        begins += [at == 0 or word != words[at - 1] for at, word in enumerate(words)]
    stream = 0
    for piece in found:
        inside = {at for at in range(1, len(piece)) if begins[stream + at]}
        assert set(piece.words) - {0} >= inside
        assert set(piece.words) - {0} - inside <= set(piece.sentences)
        assert piece.words[0] == piece.sentences[0] == 0
        stream += len(piece)


def test_sentences_begin_after_full_stops_and_line_breaks(any_encoder: Any, tmp_path: Path) -> None:
    encoder = any_encoder
    text = 'He ran 3.5 km. "Stop!" she said (loudly!) Then?! \nA line\n\n  More.\n你好。世界！end'
    [piece] = [make_pieces(encoder, tmp_path, [text], 200)[0]]
    stops = [*piece.sentences[1:], len(piece)]
    shown = [
        encoder.decode(piece.ids[start:stop])
        for start, stop in zip(piece.sentences, stops, strict=True)
    ]
    assert shown == [
        "He ran 3.5 km.",
        ' "Stop!"',
        " she said (loudly!)",
        " Then?! \n",
        "A line\n\n",
        "  More.\n",
        "你好。",
        "世界！",
        "end",
    ]


def test_pieces_end_after_sentences_or_else_before_words(
    encoder: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Of this tokenizer each character is a token, but for what it has learned to merge.
    texts = ["x y. z w. u v q r s", "abcdefghijk"]
    pieces = make_pieces(encoder, tmp_path, texts, 8)
    shown = [encoder.decode(pieces[number].ids) for number in range(len(pieces))]
    assert shown == ["x y. z w."[:4], " z w.", " u v q r"[:8], " s", "abcdefgh", "ijk"]
    assert not caplog.messages
    few = make_pieces(encoder, tmp_path, texts, 8, least_words=2)
    assert caplog.messages == ["1 of 2 documents have fewer words than 2 and are left out"]
    assert [encoder.decode(few[number].ids) for number in range(len(few))] == shown[:3]


def test_ids_are_counted_over_the_corpus(encoder: Any, tmp_path: Path) -> None:
    texts = ["the cat", "", "a mat."]
    counted = make_pieces(encoder, tmp_path, texts).count_ids(len(encoder))
    expected = Counter(chain(*encode_texts(encoder, texts)))
    assert {id: count for id, count in enumerate(counted.tolist()) if count} == expected


def test_text_never_becomes_a_special_token(encoder: Any, tmp_path: Path) -> None:
    piece = make_pieces(encoder, tmp_path, ["a [MASK] b"])[0]
    assert encoder.mask_token_id not in piece.ids


def test_other_documents_are_drawn_alike_and_never_the_own_one(
    encoder: Any, tmp_path: Path
) -> None:
    pieces = make_pieces(encoder, tmp_path, ["x y z", "a b. c d. e f. g h.", "u v"], 5)
    assert len(pieces) == 6
    generator = seeded()
    drawn = Counter(pieces.draw_elsewhere(2, generator) for _ in range(2000))
    assert drawn.keys() == {0, 5}  # pieces 1 to 4 are one document
    assert abs(drawn[0] - 1000) < 5 * 22.4  # five standard deviations, sqrt(2000 / 4)
    assert {pieces.draw_elsewhere(0, generator) for _ in range(200)} == {1, 2, 3, 4, 5}


def test_one_document_alone_is_refused(encoder: Any, tmp_path: Path) -> None:
    pieces = make_pieces(encoder, tmp_path, ["a b c d", ""])
    with pytest.raises(DataError, match="one document"):
        pieces.draw_elsewhere(0, torch.Generator())
