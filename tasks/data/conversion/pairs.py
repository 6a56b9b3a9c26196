"""Two completions of which a row says which is better: chosen and rejected, or two outputs.

A pair that is a tie is told apart from one that cannot be used: `data.ties` decides about the
former. Where a row contradicts itself (chosen has the lower score, or a column calls the rejected
one the preferred), which side is right cannot be known, so the pair is dropped and counted.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tasks.data.conversion.cells import YES, is_absent, number, unpacked, word
from tasks.data.conversion.dialogues import (
    REPEATED,
    after,
    as_turns,
    earlier_turns,
    following,
    read_prompt,
    repeats,
)
from tasks.data.conversion.messages import read_content
from tasks.data.conversion.records import Cells, Content, Example, Message, Pair, RowProblem
from tasks.data.conversion.verdicts import CHOSEN_AND_REJECTED, Verdict, read_verdict

MARGINS: Mapping[str, float] = {
    "significantly_better": 1.0,
    "better": 2 / 3,
    "slightly_better": 1 / 3,
    "negligibly_better": 0.0,
    "negligibly_better_or_unsure": 0.0,
    "negligibly_better_/_unsure": 0.0,
    "unsure": 0.0,
}
"""The words of Llama 2's annotators. Source: Touvron et al. 2023, arXiv:2307.09288, table 27."""
MOST_MARGIN = 100.0
"""In units of the score: more cannot be learned, and makes the loss infinite in the end."""

NO_PROMPT = "there is no prompt column, and chosen and rejected are no whole dialogues"


def read_margin(value: object) -> float | None:
    """How much better chosen is, as a number or in Llama 2's words; None where nothing is said.

    Raises:
        RowProblem: It is neither such a word nor a number from 0 to `MOST_MARGIN`.
    """
    if is_absent(value):
        return None
    found = MARGINS.get(word(value))
    if found is not None:
        return found
    try:
        given = number(value, "margin")
    except RowProblem:
        given = -1.0
    if given is None or not 0 <= given <= MOST_MARGIN:
        raise RowProblem(f"margin is not a number from 0 to {MOST_MARGIN:g}")
    return given


def chosen_and_rejected(cells: Cells) -> Example:
    """Read a pair that names the better one, with or without a prompt column."""
    return with_prompt(cells, _chosen_and_rejected)


def with_prompt(cells: Cells, read: Callable[[Cells, Content | None], Example]) -> Example:
    """An example of the row's prompt and of what `read` makes of the rest.

    What is wrong with the rest is kept for those who want it: the prompt may be all that is wanted.
    """
    if is_absent(cells.get("prompt")):
        return read(cells, None)
    prompt = read_prompt(cells)
    try:
        return read(cells, prompt)
    except RowProblem as problem:
        return Example(prompt=prompt, problem=problem)


def _chosen_and_rejected(cells: Cells, prompt: Content | None) -> Example:
    chosen = read_content(cells["chosen"], "chosen")
    rejected = read_content(cells["rejected"], "rejected")
    prompt, chosen, rejected, notes = _placed(cells, prompt, chosen, rejected)
    contradiction, tie = _judged(cells)
    pair = Pair(chosen, rejected, read_margin(cells.get("margin")), tie, contradiction)
    return Example(prompt=prompt, pairs=(pair,), notes=notes)


def _placed(
    cells: Cells, prompt: Content | None, first: Content, second: Content
) -> tuple[Content | None, Content, Content, tuple[str, ...]]:
    """Both completions without what they repeat of the prompt; no prompt with whole dialogues."""
    if isinstance(first, str) and isinstance(second, str):
        if prompt is None:
            raise RowProblem(NO_PROMPT)
        raw = cells["prompt"]
        if repeats(raw, first) and repeats(raw, second):
            return prompt, first[len(raw) :], second[len(raw) :], (REPEATED,)
        return prompt, following(first, prompt, cells), following(second, prompt, cells), ()
    if _is_whole(first) and _is_whole(second):
        before = _before(cells, prompt, as_turns(first, "user"))
        first, second = (after(before, as_turns(one, "user")) for one in (first, second))
        return None, first, second, ()
    if prompt is None:
        raise RowProblem(NO_PROMPT)
    return prompt, following(first, prompt, cells), following(second, prompt, cells), ()


def _is_whole(content: Content) -> bool:
    return isinstance(content, list) and len(content) > 1 and content[0]["role"] != "assistant"


def _before(cells: Cells, prompt: Content | None, dialogue: list[Message]) -> list[Message]:
    """What a row says before whole dialogues: a system text, or earlier turns.

    Raises:
        RowProblem: The row's prompt does not stand in the dialogue.
    """
    if prompt is None:
        return earlier_turns(cells)
    asked, shared = as_turns(prompt, "user"), dialogue[:-1]
    if asked[-len(shared) :] == shared:
        return asked[: -len(shared)]
    said = {turn["content"].strip() for turn in dialogue}
    if any(turn["content"].strip() not in said for turn in asked if turn["role"] == "user"):
        raise RowProblem("the prompt does not stand in the dialogues of chosen and rejected")
    return [turn for turn in asked if turn["role"] == "system"]


def _judged(cells: Cells) -> tuple[str, bool]:
    """Why a pair contradicts itself, and whether it is a tie, by its verdict and its scores."""
    verdict = None
    if not is_absent(cells.get("verdict")):
        verdict = read_verdict(cells["verdict"], CHOSEN_AND_REJECTED)
        if verdict is None:
            raise _unknown_verdict(cells)
        if verdict == "second":
            return "contradiction: the verdict says that rejected is better", False
    # A status may say anything else, such as "good" or 1 for a row that was reviewed.
    if word(cells.get("tie")) in {"tie", *YES} or word(cells.get("status")) == "tie":
        verdict = "tie"
    high, low = (
        number(cells.get("score_chosen"), "score"),
        number(cells.get("score_rejected"), "score"),
    )
    if high is not None and low is not None:
        if high < low:
            return "contradiction: chosen has a lower score than rejected", False
        if verdict is not None and (verdict == "tie") != (high == low):
            return "contradiction: verdict and scores disagree", False
        verdict = "tie" if high == low else verdict
    return "", verdict == "tie"


def _unknown_verdict(cells: Cells) -> RowProblem:
    name = cells["verdict name"] or "winner"
    return RowProblem(
        f"column {name} names neither of the two completions, nor a tie; leave "
        "it out of the file if it says something else"
    )


def two_outputs(cells: Cells) -> Example:
    """Read two outputs and which of them is better, by a verdict or by their scores."""
    questions, first, second = (unpacked(cells.get(name)) for name in ("prompt", "first", "second"))
    if _are_texts(questions) and _are_texts(first) and _are_texts(second):
        dialogues = [_interleaved(questions, answers) for answers in (first, second)]
        return _two_outputs({**cells, "first": dialogues[0], "second": dialogues[1]}, None)
    return with_prompt(cells, _two_outputs)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(one, str) for one in value)


def _interleaved(questions: list[str], answers: list[str]) -> list[Message]:
    """A dialogue of questions and answers that stand in two lists (Chatbot Arena)."""
    if len(questions) != len(answers):
        raise RowProblem("questions and answers differ in number")
    turns = zip(questions, answers, strict=True)
    return [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]


def _two_outputs(cells: Cells, prompt: Content | None) -> Example:
    first, second = (_answer(cells[name], name) for name in ("first", "second"))
    if _is_whole(first) and _is_whole(second):
        first, second = (_to_turn(one, cells.get("turn")) for one in (first, second))
    prompt, first, second, notes = _placed(cells, prompt, first, second)
    verdict, margin, contradiction = _verdict(cells)
    chosen, rejected = (second, first) if verdict == "second" else (first, second)
    pair = Pair(chosen, rejected, margin, verdict == "tie", contradiction)
    return Example(prompt=prompt, pairs=(pair,), notes=notes)


def _answer(value: Any, name: str) -> Content:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    return read_content(value, name)


def _to_turn(dialogue: Content, turn: object) -> Content:
    """A dialogue up to the answer that was judged, where a row counts turns (MT-bench)."""
    count = number(turn, "turn")
    if count is None or isinstance(dialogue, str):
        return dialogue
    answers = [i for i, one in enumerate(dialogue) if one["role"] == "assistant"]
    if not 1 <= count <= len(answers):
        raise RowProblem("turn is not the number of an answer")
    return dialogue[: answers[int(count) - 1] + 1]


def _verdict(cells: Cells) -> tuple[Verdict | None, float | None, str]:
    """Who is better, by how much, and why that cannot be known."""
    verdict, margin, found = None, read_margin(cells.get("margin")), []
    names = cells["pair names"]
    if not is_absent(cells.get("verdict")):
        models = (cells.get("model_first"), cells.get("model_second"))
        found.append(read_verdict(cells["verdict"], names, models, cells["verdict name"]))
    strength = number(cells.get("strength"), "strength")
    if strength is not None:  # HelpSteer: below 0 the first is better, by 1 to 3 steps
        found.append("tie" if not strength else "first" if strength < 0 else "second")
        margin = min(abs(strength), 3) / 3 if margin is None else margin
    flags = [number(cells.get(name), name) for name in ("won_first", "won_second", "won_neither")]
    if any(flag is not None for flag in flags):
        outcomes: tuple[Verdict, ...] = ("first", "second", "tie")
        said = [each for each, flag in zip(outcomes, flags, strict=True) if flag]
        found.append(said[0] if len(said) == 1 else None)
    scores = [number(cells.get(name), "score") for name in ("score_first", "score_second")]
    if scores[0] is not None and scores[1] is not None:
        higher: Verdict = "first" if scores[0] > scores[1] else "second"
        found.append("tie" if scores[0] == scores[1] else higher)
    if not found:
        return None, None, "nobody said which of the two outputs is better"
    if None in found:
        raise _unknown_verdict(cells)
    verdict = found[0]
    if len(set(found)) > 1:
        return None, None, "contradiction: verdict and scores disagree"
    return verdict, margin, ""
