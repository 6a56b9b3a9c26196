"""Next-sentence prediction: two segments, of which the second follows the first or does not.

A piece of a document is cut in two at the beginning of one of its sentences. A piece of one
sentence, such as a caption, is cut at the word nearest to its middle. Half of the time the second
part is replaced by the end of a piece of another document.

What differs from the paper: the other document's end is cut in the same way, and where it comes
nearest to the length of the part that it replaces. So neither a segment's length nor how it begins
says which of the two it is.

Source: Devlin et al., BERT (2019), section 3.1, task 2, and appendix A.2.
"""

from dataclasses import dataclass
from typing import Any

import torch

from models.objectives.documents import Piece, Pieces

IS_NEXT, NOT_NEXT = 0, 1
"""Labels, as transformers has them."""
LEAST_WORDS = 2
"""Of a piece that can be cut."""
ADDED_TOKENS = 3
"""[CLS] and two [SEP]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two segments, and whether the second one follows the first."""

    first: Piece
    second: Piece
    label: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """[CLS] first [SEP] second [SEP].

    Attributes:
        input_ids: (tokens,).
        token_type_ids: (tokens,), 0 up to the first [SEP], then 1.
        words: Places at which words begin; special tokens are words of their own.
    """

    input_ids: list[int]
    token_type_ids: list[int]
    words: list[int]


def draw_pair(pieces: Pieces, number: int, room: int, generator: torch.Generator) -> Pair:
    """Cut a piece in two, and replace its second part half of the time.

    Args:
        pieces: Of at least LEAST_WORDS words each.
        room: Most tokens of both segments together.

    Raises:
        DataError: There is no other document.
    """
    piece = pieces[number]
    at = draw_cut(piece, generator)
    first, second = piece.part(0, at), piece.part(at, len(piece))
    if float(torch.rand((), generator=generator)) < 0.5:
        return Pair(first=first, second=second, label=IS_NEXT)
    other = pieces[pieces.draw_elsewhere(number, generator)]
    start = nearest_cut(other, len(other) - len(second))
    stop = min(len(other), start + room - len(first))
    return Pair(first=first, second=other.part(start, stop), label=NOT_NEXT)


def draw_cut(piece: Piece, generator: torch.Generator) -> int:
    """Draw the place at which the second segment begins."""
    inner = piece.sentences[1:]
    if not inner:
        return nearest_cut(piece, len(piece) // 2)
    return inner[int(torch.randint(len(inner), (), generator=generator))]


def nearest_cut(piece: Piece, wanted: int) -> int:
    """Find where a second segment can begin: at a sentence, or else a word, nearest to a place."""
    inner = piece.sentences[1:] or piece.words[1:]
    return min(inner, key=lambda place: abs(place - wanted))


def lay_out_pair(tokenizer: Any, pair: Pair) -> PairRow:
    """Put two segments into one row of a model."""
    cls, sep = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    first, second = pair.first, pair.second
    after = 1 + len(first)  # the first [SEP]
    return PairRow(
        input_ids=cls + first.ids + sep + second.ids + sep,
        token_type_ids=[0] * (after + 1) + [1] * (len(second) + 1),
        words=[
            0,
            *(1 + place for place in first.words),
            after,
            *(after + 1 + place for place in second.words),
            after + 1 + len(second),
        ],
    )
