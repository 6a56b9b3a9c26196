"""Dialogues written as one text, with a mark before each turn.

Only marks that plain prose does not have are read: Anthropic's "\\n\\nHuman: …\\n\\nAssistant: …",
the same with User, Guanaco's "### Human: …### Assistant: …", and ChatML's "<|im_start|>user".
"""

import re

from tasks.data.conversion.records import Message, RowProblem

_ROLES = {"human": "user", "user": "user", "assistant": "assistant", "system": "system"}
ANSWER = "\n\nAssistant:"
"""The mark of an answer."""

_HUMAN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_USER = re.compile(r"(?:^|\n\n)(User|Assistant):")
_HASHES = re.compile(r"\s*### ?(Human|User|Assistant|System):")
_HASHED_START = re.compile(r"\s*### ?(Human|User|System):")
_HASHED_ANSWER = re.compile(r"### ?Assistant:")
_CHATML = re.compile(r"<\|im_start\|>(user|assistant|system)\n")


def _marks(text: str) -> re.Pattern[str] | None:
    """The marks of a text's turns; None where it is no transcript."""
    start = text.lstrip()[:12]
    if start.startswith("###"):
        dialogue = _HASHED_START.match(text) and _HASHED_ANSWER.search(text)
        return _HASHES if dialogue else None
    if start == "<|im_start|>":
        return _CHATML if _CHATML.match(text.lstrip()[:24]) else None
    # Prose may begin with such a word too: blank lines in front, or the other one's turn, decide.
    if start.startswith("Human:"):
        return _HUMAN if text.startswith("\n\n") or ANSWER in text else None
    if start.startswith("User:"):
        return _USER if ANSWER in text else None
    return _HUMAN if text.startswith(ANSWER) else None


def is_transcript(text: str) -> bool:
    """Whether a text is a dialogue with a mark before each turn."""
    return _marks(text) is not None


def read_transcript(text: str, column: str) -> list[Message]:
    """Messages of a transcript; contents lose the space around them, which belongs to the marks.

    Raises:
        RowProblem: It is none.
    """
    marks = _marks(text)
    if marks is None:
        raise RowProblem(f"{column} is not a transcript of Human and Assistant turns")
    _, *turns = marks.split(text.lstrip())
    return [
        {
            "role": _ROLES[name.lower()],
            "content": content.strip().removesuffix("<|im_end|>").strip(),
        }
        for name, content in zip(turns[::2], turns[1::2], strict=True)
    ]
