"""Dialogues written as one text, with a mark before each turn.

Only marks that plain prose does not have are read: Anthropic's "\\n\\nHuman: …\\n\\nAssistant: …",
the same with User, "### Human: …### Assistant: …" (Guanaco) or Instruction and Response (Alpaca),
and ChatML's "<|im_start|>user". Prose may begin with such a word too: the other one's turn decides,
or blank lines in front.
"""

import re

from tasks.data.conversion.records import Message, RowProblem

_ROLES = {"human": "user", "user": "user", "instruction": "user"}
_ROLES |= {"assistant": "assistant", "response": "assistant", "system": "system"}
ANSWER = "\n\nAssistant:"
"""The mark of an answer."""

_HASHES = re.compile(r"\s*### ?(Human|User|Assistant|System|Instruction|Response):")
_HASHED_START = re.compile(r"\s*### ?(?:Human|User|System|Instruction):")
_HASHED_ANSWER = re.compile(r"### ?(?:Assistant|Response):")
_CHATML = re.compile(r"<\|im_start\|>(user|assistant|system)\n")
_LINES = {
    user: tuple(re.compile(rf"(?:^|{apart})({user}|{answer}):") for apart in (r"\n\n", r"\n\s*"))
    for user, answer in (("Human", "Assistant"), ("User", "Assistant"), ("USER", "ASSISTANT"))
}
"""Marks at the beginning of a paragraph, and of a line, by who begins."""


def _marks(text: str) -> re.Pattern[str] | None:
    """The marks of a text's turns; None where it is no transcript."""
    start = text.lstrip()[:24]
    if start.startswith("###"):
        dialogue = _HASHED_START.match(text) and _HASHED_ANSWER.search(text)
        return _HASHES if dialogue else None
    if start.startswith("<|im_start|>"):
        return _CHATML if _CHATML.match(start) else None
    user = start.partition(":")[0]
    if user in _LINES:
        answer = "ASSISTANT:" if user.isupper() else "Assistant:"
        paragraphs, lines = _LINES[user]
        if f"\n\n{answer}" in text or text.startswith("\n\nHuman:"):
            return paragraphs
        return lines if f"\n{answer}" in text else None
    return _LINES["Human"][0] if text.startswith(ANSWER) else None


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
