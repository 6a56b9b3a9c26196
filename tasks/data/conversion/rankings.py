"""K completions of one prompt with ranks, ratings or a choice: a ranking becomes all its pairs.

Equal ranks are ties. A completion without a rank is left out and named in the notes.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from tasks.data.conversion.cells import is_absent, number, text_cell, unpacked
from tasks.data.conversion.dialogues import following
from tasks.data.conversion.messages import TEXT_KEYS, read_content, rows_of_lists
from tasks.data.conversion.pairs import with_prompt
from tasks.data.conversion.records import Cells, Content, Example, LeftOut, Pair, RowProblem

UNRANKED = "completions without rank or score were left out"
TOO_FEW = "fewer than two completions with a rank or score"
_TEXTS = ("answer", "response", "completion", "output", "reply", "generation", *TEXT_KEYS)
_RANKS = ("rank",)
_SCORES = ("score", "rating", "reward", "pm_score")
_ULTRAFEEDBACK = ("fine-grained_score", "overall_score")
RANKED_KEYS = frozenset((*_TEXTS, *_RANKS, *_SCORES, *_ULTRAFEEDBACK, "annotations"))
"""What is looked at in a ranked completion."""


def ranked_pairs(ranked: Sequence[tuple[Content, float | None]]) -> tuple[Pair, ...]:
    """All pairs of completions of which both have a value; the higher one is chosen."""
    known = [(content, value) for content, value in ranked if value is not None]
    pairs = []
    for (one, high), (other, low) in combinations(known, 2):
        chosen, rejected = (one, other) if high >= low else (other, one)
        pairs.append(Pair(chosen, rejected, tie=high == low))
    return tuple(pairs)


def ranking_example(
    prompt: Content | None, ranked: Sequence[tuple[Content, float | None]]
) -> Example:
    """The example of a prompt and completions with values, of which the highest is best."""
    notes = (UNRANKED,) if any(value is None for _, value in ranked) else ()
    return Example(prompt=prompt, pairs=ranked_pairs(ranked), problem=LeftOut(TOO_FEW), notes=notes)


def ranked_objects(cells: Cells) -> Example:
    """Read completions that are objects with a rank or rating each (Nectar, UltraFeedback)."""
    return with_prompt(cells, _ranked_objects)


def _ranked_objects(cells: Cells, prompt: Content | None) -> Example:
    items = unpacked(cells["completions"])
    if isinstance(items, Mapping):
        items = rows_of_lists(items)
    if not isinstance(items, list) or not all(isinstance(one, Mapping) for one in items):
        raise RowProblem("completions have neither ranks nor scores")
    ranked = [(following(_text_of(one), prompt, cells), _value_of(one)) for one in items]
    return ranking_example(prompt, ranked)


def _text_of(item: Mapping[str, Any]) -> Content:
    for key in _TEXTS:
        if not is_absent(item.get(key)):
            return read_content(item[key], "completion")
    raise RowProblem("a completion of the ranking has no text")


def _value_of(item: Mapping[str, Any]) -> float | None:
    """How good a completion is; higher is better, so a rank counts below zero."""
    for key in _RANKS:
        if key in item:
            rank = number(item[key], key)
            return None if rank is None else -rank
    ratings = item.get("annotations")
    if isinstance(ratings, Mapping) and ratings:
        return _mean_rating(ratings)
    for key in (*_SCORES, *_ULTRAFEEDBACK):
        if key in item:
            return number(item[key], key)
    return None


def _mean_rating(annotations: Mapping[str, Any]) -> float | None:
    """The mean over UltraFeedback's aspects, without the overall score, which is known as wrong."""
    values = []
    for aspect in annotations.values():
        rating = aspect.get("Rating") if isinstance(aspect, Mapping) else aspect
        if not is_absent(rating) and rating != "N/A":
            values.append(number(rating, "rating"))
    found = [value for value in values if value is not None]
    return math.fsum(found) / len(found) if found else None


def parallel_lists(cells: Cells) -> Example:
    """Read a list of completions beside a list of ranks (1 is best) or scores (more is better)."""
    return with_prompt(cells, _parallel_lists)


def _parallel_lists(cells: Cells, prompt: Content | None) -> Example:
    texts, ranks, scores = (
        unpacked(cells.get(name)) for name in ("completions", "ranks", "scores")
    )
    by_rank = not is_absent(ranks)
    values = ranks if by_rank else scores
    if not isinstance(texts, list) or not isinstance(values, list):
        raise RowProblem("completions and their ranks or scores are not two lists")
    if len(texts) != len(values):
        raise RowProblem("completions and their ranks or scores differ in number")
    numbers = [number(value, "rank" if by_rank else "score") for value in values]
    contents = [following(read_content(text, "completion"), prompt, cells) for text in texts]
    signed = [-one if one is not None and by_rank else one for one in numbers]
    return ranking_example(prompt, list(zip(contents, signed, strict=True)))


def summaries(cells: Cells) -> Example:
    """Read two summaries of a post and which was chosen (summarize_from_feedback)."""
    info, found = unpacked(cells["info"]), unpacked(cells["summaries"])
    if not isinstance(info, Mapping) or not isinstance(found, list):
        raise RowProblem("info and summaries are not an object and a list")
    post = next((info[key] for key in ("post", "article") if not is_absent(info.get(key))), None)
    prompt = text_cell(post, "post")
    if not is_absent(info.get("title")):
        prompt = f"{text_cell(info['title'], 'title')}\n\n{prompt}"
    texts = [
        text_cell(one.get("text") if isinstance(one, Mapping) else one, "summary") for one in found
    ]
    choice = number(cells["choice"], "choice")
    if choice is None or choice not in range(len(texts)):
        raise RowProblem("choice is not the position of a summary, counted from 0")
    best = texts[int(choice)]
    others = [text for position, text in enumerate(texts) if position != choice]
    return Example(prompt=prompt, pairs=tuple(Pair(best, other) for other in others))
