"""Chat messages however a file writes them: names of keys and roles, parts, columns of lists.

Canonical messages have a role (system, user or assistant) and a content, both texts. What they
cannot hold, such as tool calls and pictures, is a problem of the row: leaving it out would teach
an answer that follows from nothing.
"""

import re
from collections.abc import Mapping
from itertools import chain
from typing import Any

from tasks.data.conversion.cells import is_absent, unpacked
from tasks.data.conversion.records import Content, LeftOut, Message, RowProblem
from tasks.data.conversion.transcripts import is_transcript, read_transcript

_ROLES = dict.fromkeys(("system", "developer"), "system")
_ROLES |= dict.fromkeys(("user", "human", "prompter", "customer", "student", "question"), "user")
_ROLES |= dict.fromkeys(
    ("assistant", "gpt", "bot", "chatbot", "chatgpt", "model", "ai", "agent", "answer"),
    "assistant",
)
_TOOLS = frozenset(
    {"tool", "tools", "function", "function_call", "function_response", "tool_call",
     "tool_response", "observation", "ipython"}
)  # fmt: skip

ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
TEXT_KEYS = ("content", "value", "text", "body", "message", "utterance")
_ASKED = (("human", "assistant"), ("user", "assistant"), ("human", "gpt"), ("input", "output"),
          ("question", "answer"), ("prompt", "response"))  # fmt: skip
_BROKEN = re.compile(r"""\s*\[?\s*\{\s*["'](role|content|from|value)["']\s*:""")
_CALLS = ("tool_calls", "function_call")
_WEIGHT = "weight"
"""0 in a turn of the assistant that a demonstration shows and does not teach (OpenAI's files)."""
MESSAGE_KEYS = frozenset((*ROLE_KEYS, *TEXT_KEYS, *_CALLS, _WEIGHT, "system", *chain(*_ASKED)))
"""What is looked at in a message."""


def looks_like_messages(value: object) -> bool:
    """Whether a value is a message, or a list or column of them."""
    if isinstance(value, Mapping):
        return any(key in value for key in ROLE_KEYS) and any(key in value for key in TEXT_KEYS)
    return isinstance(value, list) and bool(value) and all(map(looks_like_messages, value))


def read_content(value: object, column: str) -> Content:
    """A prompt or completion as a file writes it: text stays text, the rest becomes messages.

    Raises:
        RowProblem: It is neither, or a message has no role or text that is known.
    """
    if isinstance(value, str):
        if is_transcript(value):
            return read_transcript(value, column)
        if value[:1].isspace() or value[:1] in "[{":
            parsed = unpacked(value)
            if parsed is not value and looks_like_messages(parsed):
                return read_messages(parsed, column)
            if parsed is value and _BROKEN.match(value):
                raise RowProblem(f"{column} holds messages as text that is no JSON")
        return value
    if is_absent(value):
        raise RowProblem(f"empty {column}")
    if isinstance(value, Mapping) and not any(key in value for key in ROLE_KEYS):
        text = _first(value, ("full_text", *TEXT_KEYS))  # whose it is follows from the column
        if isinstance(text, str):
            return text
    if not isinstance(value, list | Mapping):
        raise RowProblem(f"wrong type: {column} is neither text nor messages")
    return read_messages(value, column)


def read_messages(value: object, column: str) -> list[Message]:
    """Messages from a list of objects, one object, an object of lists, or JSON of these.

    Raises:
        RowProblem: A message has no role or text that is known, or holds more than text.
    """
    value = unpacked(value)
    if is_absent(value):
        return []
    if isinstance(value, str) and is_transcript(value):
        return read_transcript(value, column)
    if isinstance(value, Mapping):
        value = rows_of_lists(value)
    if not isinstance(value, list):
        kind = "a text" if isinstance(value, str) else "a value"
        raise RowProblem(f"wrong type: {column} is {kind}, not a list of messages")
    if value and isinstance(value[0], Mapping) and not looks_like_messages(value[0]):
        value = [turn for item in value for turn in _question_and_answer(item)]
    return [_message(item, column) for item in value]


def _question_and_answer(item: Any) -> list[Any]:
    """The messages of an object that holds a question and its answer, else the object."""
    for question, answer in _ASKED:
        if isinstance(item, Mapping) and question in item and answer in item:
            roles = (("system", "system"), (question, "user"), (answer, "assistant"))
            return [
                {"role": role, "content": item[key]}
                for key, role in roles
                if not is_absent(item.get(key))
            ]
    return [item]


def rows_of_lists(value: Mapping[str, Any]) -> list[Any]:
    """One message; or several, where an object holds a list for each key."""
    if all(isinstance(one, list) for one in value.values()):
        sizes = {len(one) for one in value.values()}
        if len(sizes) == 1:
            return [
                dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)
            ]
    return [value]


def _message(item: object, column: str) -> Message:
    if not isinstance(item, Mapping):
        kind = "a text" if isinstance(item, str) else "a value"
        raise RowProblem(f"wrong type: {column} has {kind} where a message with a role should be")
    role = item.get("role")
    content = item.get("content")
    if role not in ("user", "assistant", "system"):
        role = _role(_first(item, ROLE_KEYS), column, item)
    if any(item.get(key) for key in _CALLS):
        raise LeftOut(f"{column} has tool calls, which cannot be kept as text")
    if not isinstance(content, str):
        content = _text(_first(item, TEXT_KEYS), column)
    excluded = role == "assistant" and item.get(_WEIGHT) in (0, "0")
    return {"role": role, "content": content} | ({_WEIGHT: 0} if excluded else {})


def _first(item: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((item[key] for key in keys if item.get(key) is not None), None)


def _role(name: object, column: str, item: Mapping[str, Any]) -> str:
    if isinstance(name, Mapping):  # an author is an object in exports of conversations
        name = name.get("role")
    if not isinstance(name, str):
        known = [key for key in (*TEXT_KEYS, "parts", "prompt", "response") if key in item]
        keys = f"; it has the key {known[0]}" if known else ""
        raise RowProblem(f"wrong type: {column} has a message without role{keys}")
    plain = name.strip().lower()
    if plain in _TOOLS:
        raise LeftOut(f"{column} has a message of role {plain}, which cannot be kept as text")
    if plain not in _ROLES:
        raise RowProblem(f"{column} has a role other than system, user, assistant")
    return _ROLES[plain]


def _text(content: object, column: str) -> str:
    """The text of a message: a text, or its parts joined, of which each must be one."""
    if isinstance(content, Mapping) and "parts" in content:
        content = content["parts"]
    if isinstance(content, Mapping):
        content = [content]
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise RowProblem(f"wrong type: {column} has a message without text")
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, Mapping) else None
            known = kind if kind in ("image", "image_url", "audio", "input_audio", "video") else ""
            raise LeftOut(f"{column} has a part that is no text" + (f" ({known})" * bool(known)))
        texts.append(text)
    return "".join(texts)
