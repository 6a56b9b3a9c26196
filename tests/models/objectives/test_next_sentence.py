"""Pairs of segments: halves that follow each other, and ends of other documents."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from models.objectives.documents import Piece
from models.objectives.next_sentence import (
    IS_NEXT,
    NOT_NEXT,
    Pair,
    draw_pair,
    lay_out_pair,
    nearest_cut,
)
from tests.models.objectives.tiny import make_pieces, make_tokenizer, seeded

CAPTIONS = [f"{who} {does} {where}" for who in ("a man", "two young girls", "the old black dog")
            for does in ("sits", "runs fast", "is sleeping") for where in ("here", "on the grass",
            "near a very large red house")]  # fmt: skip
REVIEWS = [f"film {n} is bad . nobody laughs {n} times . go home now and sleep" for n in range(20)]


@pytest.fixture(scope="module")
def encoder() -> Any:
    return make_tokenizer([*CAPTIONS, *REVIEWS], 340)


@pytest.mark.parametrize("texts", [CAPTIONS, REVIEWS], ids=["one sentence", "several"])
def test_half_of_the_pairs_follow_and_the_others_end_another_document(
    encoder: Any, tmp_path: Path, texts: list[str]
) -> None:
    pieces = make_pieces(encoder, tmp_path, texts, 64, least_words=2)
    assert len(pieces) == len(texts)
    generator = seeded()
    labels = []
    for draw in range(2000):
        number = draw % len(texts)
        pair = draw_pair(pieces, number, 64, generator)
        first, second = encoder.decode(pair.first.ids), encoder.decode(pair.second.ids)
        labels.append(pair.label)
        assert first
        assert second
        if pair.label == IS_NEXT:
            assert first + second == texts[number]
            continue
        assert texts[number].startswith(first)
        ended = [one for one in texts if one.endswith(second)]
        assert [one for one in ended if one != texts[number]]
        assert second not in texts  # a beginning would give the answer away
        if texts is REVIEWS:
            assert first.endswith(".")
    assert set(labels) == {IS_NEXT, NOT_NEXT}
    assert abs(sum(labels) - 1000) < 5 * 22.4  # five standard deviations, sqrt(2000 / 4)


def test_lengths_do_not_give_the_answer_away(encoder: Any, tmp_path: Path) -> None:
    """A classifier that sees nothing but lengths is hardly better than a coin."""
    pieces = make_pieces(encoder, tmp_path, CAPTIONS, 64, least_words=2)
    generator = seeded()
    pairs = [draw_pair(pieces, draw % len(CAPTIONS), 64, generator) for draw in range(4000)]
    one, other = (np.array([len(getattr(p, side)) for p in pairs]) for side in ("first", "second"))
    features = np.stack([one, other, one - other, np.abs(one - other)], axis=1)
    labels = [pair.label for pair in pairs]
    assert LogisticRegression(max_iter=1000).fit(features, labels).score(features, labels) < 0.56


def test_one_sentence_is_cut_at_the_word_nearest_to_its_middle() -> None:
    piece = Piece(ids=list(range(10)), words=[0, 1, 4, 9], sentences=[0])
    assert nearest_cut(piece, 5) == 4
    assert nearest_cut(piece, 8) == 9
    assert nearest_cut(piece, 0) == 1  # never the beginning
    assert nearest_cut(Piece(ids=[1] * 10, words=[0, 1, 4, 9], sentences=[0, 9]), 4) == 9


def test_a_pair_never_exceeds_its_room(encoder: Any, tmp_path: Path) -> None:
    texts = ["a b c d e f g h. i", "a. bbb ccc ddd eee fff ggg hhh"]
    pieces = make_pieces(encoder, tmp_path, texts, 200, least_words=2)
    room = len(pieces[0])
    generator = seeded()
    pairs = [draw_pair(pieces, 0, room, generator) for _ in range(20)]
    assert {len(pair.first) + len(pair.second) for pair in pairs} == {room}


def test_the_layout_has_special_tokens_and_types(encoder: Any) -> None:
    first = Piece(ids=[50, 51, 52], words=[0, 2], sentences=[0])
    second = Piece(ids=[60, 61], words=[0], sentences=[0])
    row = lay_out_pair(encoder, Pair(first=first, second=second, label=IS_NEXT))
    cls, sep = encoder.cls_token_id, encoder.sep_token_id
    assert row.input_ids == [cls, 50, 51, 52, sep, 60, 61, sep]
    assert row.token_type_ids == [0, 0, 0, 0, 0, 1, 1, 1]
    assert row.words == [0, 1, 3, 4, 5, 7]
