"""Prompts and demonstrations: what a row says before the completion, and the completion.

A prompt may stand in several columns: a system text, earlier turns, an instruction and its input.
All of them become one prompt, so that nothing of them is lost.
"""

from typing import Any

from tasks.data.conversion.cells import NO, YES, is_absent, text_cell, unpacked, word
from tasks.data.conversion.messages import read_content, read_messages
from tasks.data.conversion.records import Cells, Content, Example, LeftOut, Message, RowProblem
from tasks.data.conversion.transcripts import ANSWER, is_transcript, read_transcript

REPEATED = "an answer repeated its prompt: the repetition was cut"
LATER_TURNS = "turns after the last answer were left out"
NO_ANSWER = "messages have no assistant turn"
TEXT_ALONE = "a text alone has no completion"
UNKNOWN_LABEL = (
    "label says neither good nor bad; if it is no verdict, data.format=prompt-completion (or "
    "messages) leaves it out"
)
THUMBS_DOWN = "marked as bad: no demonstration"
_SHORTEST_REPEATED = 20
"""Characters of a prompt from which an answer that begins with it is taken to repeat it."""


def as_turns(content: Content, role: str) -> list[Message]:
    """Content as messages: a text is one of the given role."""
    return [{"role": role, "content": content}] if isinstance(content, str) else content


def read_prompt(cells: Cells) -> Content:
    """The prompt of a row from its cells ``prompt``, ``input``, ``system`` and ``history``.

    Raises:
        RowProblem: There is no prompt, or it is not what a prompt can be.
    """
    prompt = read_content(cells["prompt"], "prompt")
    if isinstance(prompt, str):
        _refuse_rivals(cells, prompt)
        if not is_absent(cells.get("input")):
            given = text_cell(cells["input"], "input")
            prompt = f"{prompt}\n\n{given}" if prompt.strip() else given
    elif not is_absent(cells.get("input")):
        raise RowProblem("an input beside a prompt that is messages")
    elif prompt and prompt[-1] == {"role": "assistant", "content": ""}:
        prompt = prompt[:-1]  # the open turn of a transcript
    if not prompt:
        raise RowProblem("empty prompt")
    earlier = earlier_turns(cells)
    return after(earlier, as_turns(prompt, "user")) if earlier else prompt


def after(earlier: list[Message], messages: list[Message]) -> list[Message]:
    """Earlier turns and messages; a system text that stands in both columns counts once."""
    return messages if messages[: len(earlier)] == earlier else [*earlier, *messages]


def _refuse_rivals(cells: Cells, prompt: str) -> None:
    """Refuse a second text that could be the prompt: which of them is one cannot be known."""
    for value in cells.get("prompt rivals", ()):
        if isinstance(value, str) and value.strip() and value.strip() not in prompt:
            raise RowProblem("two columns could be the prompt, with different texts")


def earlier_turns(cells: Cells) -> list[Message]:
    """The turns in the cells ``system`` and ``history``.

    Raises:
        RowProblem: They hold something else.
    """
    turns: list[Message] = []
    system = cells.get("system")
    if not is_absent(system):
        turns.append({"role": "system", "content": text_cell(system, "system")})
    history = unpacked(cells.get("history"))
    if is_absent(history):
        return turns
    if not isinstance(history, list):
        raise RowProblem("wrong type: history is not a list of turns")
    for turn in history:
        if isinstance(turn, list) and len(turn) == 2:  # a question and its answer
            turns.append({"role": "user", "content": text_cell(turn[0], "history")})
            turns.append({"role": "assistant", "content": text_cell(turn[1], "history")})
        else:
            turns += read_messages(turn, "history")
    return turns


def read_completion(cells: Cells, prompt: Content) -> tuple[Content, tuple[str, ...]]:
    """The completion of a row that has a prompt, and notes about it.

    Raises:
        RowProblem: It is not what a completion can be.
    """
    value = cells["completion"]
    for rival in cells.get("completion rivals", ()):
        if isinstance(rival, str) and rival.strip() and rival != value:
            raise RowProblem("two columns could be the completion, with different texts")
    if repeats(cells["prompt"], value):
        return following(value[len(cells["prompt"]) :], prompt, cells), (REPEATED,)
    completion = read_content(value, "completion")
    asked = as_turns(prompt, "user")
    if isinstance(completion, list) and completion[: len(asked)] == asked:
        return completion[len(asked) :], (REPEATED,)
    return following(completion, prompt, cells), ()


def repeats(prompt: object, answer: object) -> bool:
    """Whether an answer begins with its whole prompt, which is too long for chance."""
    return (
        isinstance(prompt, str)
        and isinstance(answer, str)
        and len(prompt) >= _SHORTEST_REPEATED
        and len(answer) > len(prompt)
        and answer.startswith(prompt)
    )


def following(completion: Content, prompt: Content | None, cells: Cells) -> Content:
    """What follows a prompt; after a transcript its text goes on as a transcript.

    So it loses the space that belongs to the last mark, and further turns in it become messages.
    """
    given = cells.get("prompt")
    if (
        isinstance(completion, str)
        and isinstance(prompt, list)
        and isinstance(given, str)
        and is_transcript(given)
    ):
        return read_transcript(f"{ANSWER}{completion}", "completion")
    return completion


def prompt_and_completion(cells: Cells) -> Example:
    """Read a demonstration of two columns, or more: instruction, input, system, history."""
    prompt = read_prompt(cells)
    try:
        completion, notes = read_completion(cells, prompt)
    except RowProblem as problem:  # the prompt may be all that is wanted
        return Example(prompt=prompt, problem=problem)
    return Example(prompt=prompt, completion=completion, problem=_thumb_down(cells), notes=notes)


def conversation(cells: Cells) -> Example:
    """Read a dialogue: its last assistant turn is the completion, what follows is left out."""
    messages = after(earlier_turns(cells), read_messages(cells["messages"], "messages"))
    answers = [index for index, turn in enumerate(messages) if turn["role"] == "assistant"]
    if not answers:
        return Example(prompt=messages, problem=RowProblem(NO_ANSWER))
    last = answers[-1]
    while last and messages[last - 1]["role"] == "assistant":
        last -= 1  # neighbours of one role belong together if `join_turns` joins them
    notes = (LATER_TURNS,) if answers[-1] + 1 < len(messages) else ()
    return Example(
        prompt=messages[:last],
        completion=messages[last : answers[-1] + 1],
        question=messages if notes else None,
        problem=_thumb_down(cells),
        notes=notes,
    )


def _thumb_down(cells: Cells) -> RowProblem | None:
    """Why a row's label makes its completion no demonstration; None if it may be one."""
    label = cells.get("label")
    return LeftOut(THUMBS_DOWN) if label is not None and word(label) in NO else None


def _judged(found: Example, cells: Cells) -> Example:
    if found.problem is None and word(cells["label"]) not in YES:
        return found._replace(problem=RowProblem(UNKNOWN_LABEL))
    return found


def thumbs(cells: Cells) -> Example:
    """Read a completion that somebody marked as good or bad (KTO)."""
    return _judged(prompt_and_completion(cells), cells)


def thumbs_on_conversation(cells: Cells) -> Example:
    """Read a dialogue whose last answer somebody marked as good or bad (KTO)."""
    return _judged(conversation(cells), cells)


def prompt_only(cells: Cells) -> Example:
    """Read a prompt without completion."""
    return Example(prompt=read_prompt(cells))


def turns(cells: Cells) -> Example:
    """Read the questions of a dialogue whose answers are not given (MT-bench); the first counts."""
    questions = unpacked(cells["turns"])
    if not isinstance(questions, list) or not questions:
        raise RowProblem("empty turns" if is_absent(questions) else "turns is not a list of texts")
    notes = ("later turns of a prompt were left out",) if len(questions) > 1 else ()
    return Example(prompt=read_content(questions[0], "turns"), notes=notes)


def plain_text(cells: Cells) -> Example:
    """Read a text; one with a mark before each turn is a dialogue too."""
    text = text_cell(cells["text"], "text")
    content: Any = read_content(text, "text") if text[:1] in "\n#<HU" else text
    if isinstance(content, str):
        return Example(prompt=text, text=text, problem=RowProblem(TEXT_ALONE))
    return conversation({"messages": content})._replace(text=text)
