"""Conversion of a row of any accepted shape to a canonical row.

Stands between `sources` and `quality`. A format is a pure function, chosen by the columns of a row;
a new one is such a function and one line in `FORMATS`.

Canonical rows are TRL's own dataset types. A prompt is a text or a list of messages, and a row is
all texts or all messages: where one value of a row is messages, a prompt text becomes one user
message and a completion text one assistant message.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from models.errors import DataError
from tasks.data.config import DataConfig

Row: TypeAlias = dict[str, Any]
Message: TypeAlias = dict[str, str]
Collection: TypeAlias = Literal["corpus", "demonstrations", "preferences", "prompts"]
COLLECTIONS: tuple[Collection, ...] = get_args(Collection)

AS_IT_IS = DataConfig()
"""No option chosen."""

UNKNOWN_COLUMNS = "columns fit no accepted format"

_ROLES = ("system", "user", "assistant")


class RowProblem(DataError):
    """One row cannot be used; its text is the reason under which the row is counted."""


class Format(NamedTuple):
    """An accepted shape of rows: the columns that it needs, and its conversion."""

    columns: tuple[str, ...]
    convert: Callable[[Row], Row]


def as_messages(row: Mapping[str, Any]) -> Row:
    """The conversational form of a canonical row; other columns stay as they are."""
    roles = dict.fromkeys(("completion", "chosen", "rejected"), "assistant") | {"prompt": "user"}
    return {
        column: [{"role": roles[column], "content": value}]
        if column in roles and isinstance(value, str)
        else value
        for column, value in row.items()
    }


def _messages(value: object, column: str) -> list[Message]:
    """Check a list of messages (or a single one) and keep role and content only."""
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise RowProblem(f"wrong type: {column} is neither text nor messages")
    messages = []
    for item in value:
        role = item.get("role") if isinstance(item, Mapping) else None
        content = item.get("content") if isinstance(item, Mapping) else None
        if not isinstance(role, str) or not isinstance(content, str):
            raise RowProblem(f"wrong type: {column} has a message without role and content texts")
        if role not in _ROLES:
            raise RowProblem(f"{column} has a role other than system, user, assistant")
        messages.append({"role": role, "content": content})
    return messages


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise RowProblem("wrong type: text is not text")
    return value


def _prompt(value: object) -> str | list[Message]:
    if isinstance(value, str):
        return value
    messages = _messages(value, "prompt")
    if not messages:
        raise RowProblem("empty prompt")
    if messages[-1]["role"] != "user":
        raise RowProblem("prompt does not end with the user's turn")
    return messages


def _completion(value: object, column: str) -> str | list[Message]:
    if isinstance(value, str):
        return value
    messages = _messages(value, column)
    if not messages:
        raise RowProblem(f"empty {column}")
    if len(messages) > 1 or messages[0]["role"] != "assistant":
        raise RowProblem(f"{column} is not one assistant message")
    return messages


def _row(prompt: object, **completions: object) -> Row:
    """A row of a prompt and completions; all of them messages if one is."""
    row: Row = {"prompt": _prompt(prompt)}
    row |= {column: _completion(value, column) for column, value in completions.items()}
    return as_messages(row) if any(isinstance(value, list) for value in row.values()) else row


def _with_margin(row: Row, source: Row) -> Row:
    """Take over the margin where one is given (CSV gives it as text)."""
    margin = source.get("margin")
    if margin is None or margin == "":
        return row
    try:
        value = float(margin)
    except (TypeError, ValueError, OverflowError):
        value = -1.0
    if isinstance(margin, bool) or not 0 <= value < float("inf"):
        raise RowProblem("margin is not a number from 0 upwards")
    return {**row, "margin": value}


def _last_assistant(messages: list[Message]) -> int | None:
    turns = [index for index, turn in enumerate(messages) if turn["role"] == "assistant"]
    return turns[-1] if turns else None


def _conversation(row: Row) -> Row:
    """The last assistant turn is the completion; what follows it is left out."""
    messages = _messages(row["messages"], "messages")
    last = _last_assistant(messages)
    if last is None:
        raise RowProblem("messages have no assistant turn")
    return _row(messages[:last], completion=messages[last : last + 1])


def _whole_dialogues(chosen: object, rejected: object, prompt: object = None) -> Row:
    """Chosen and rejected are whole dialogues: the turns before the last are the prompt.

    A given prompt that ends with these turns is kept, since it may have a system message too.
    """
    chosen_turns, rejected_turns = _messages(chosen, "chosen"), _messages(rejected, "rejected")
    shared = chosen_turns[:-1]
    if shared != rejected_turns[:-1]:
        raise RowProblem("chosen and rejected differ before the last turn")
    if isinstance(prompt, list):
        given = _messages(prompt, "prompt")
        shared = given if given[-len(shared) :] == shared else shared
    return _row(shared, chosen=chosen_turns[-1:], rejected=rejected_turns[-1:])


def _prompt_chosen_rejected(row: Row) -> Row:
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list) and len(chosen) > 1:
        return _with_margin(_whole_dialogues(chosen, rejected, row["prompt"]), row)
    return _with_margin(_row(row["prompt"], chosen=chosen, rejected=rejected), row)


_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def _transcript(text: str, column: str) -> list[Message]:
    """Read an Anthropic transcript, turns of "\\n\\nHuman: …" and "\\n\\nAssistant: …"."""
    before, *turns = _TURN.split(text)
    if before.strip() or not turns:
        raise RowProblem(f"{column} is not a transcript of Human and Assistant turns")
    names = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": names[name], "content": content.strip()}
        for name, content in zip(turns[::2], turns[1::2], strict=True)
    ]


def _chosen_rejected(row: Row) -> Row:
    """No prompt column: it is implicit, in messages or in Anthropic's HH transcripts."""
    chosen, rejected = (
        _transcript(row[column], column) if isinstance(row[column], str) else row[column]
        for column in ("chosen", "rejected")
    )
    return _with_margin(_whole_dialogues(chosen, rejected), row)


def _prompt_of_conversation(row: Row) -> Row:
    messages = _messages(row["messages"], "messages")
    return {"prompt": _prompt(messages[: _last_assistant(messages)])}


# The first format whose columns a row has is taken: the more telling ones stand first.
FORMATS: Mapping[Collection, tuple[Format, ...]] = {
    "corpus": (Format(("text",), lambda row: {"text": _text(row["text"])}),),
    "demonstrations": (
        Format(
            ("prompt", "completion"), lambda row: _row(row["prompt"], completion=row["completion"])
        ),
        Format(("messages",), _conversation),
    ),
    "preferences": (
        Format(("prompt", "chosen", "rejected"), _prompt_chosen_rejected),
        Format(("chosen", "rejected"), _chosen_rejected),
    ),
    "prompts": (
        Format(("prompt",), lambda row: {"prompt": _prompt(row["prompt"])}),
        Format(("messages",), _prompt_of_conversation),
        Format(("chosen", "rejected"), lambda row: {"prompt": _chosen_rejected(row)["prompt"]}),
        Format(("text",), lambda row: {"prompt": _text(row["text"])}),
    ),
}


def find_format(collection: Collection, columns: Iterable[str]) -> Format | None:
    """The format of a row by its columns; None if no format fits."""
    present = frozenset(columns)
    return next((each for each in FORMATS[collection] if present.issuperset(each.columns)), None)


def accepted_columns(collection: Collection) -> str:
    """All sets of columns that a collection accepts, for messages."""
    return ", or ".join(" + ".join(each.columns) for each in FORMATS[collection])


def convert_row(collection: Collection, row: Row, config: DataConfig = AS_IT_IS) -> list[Row]:
    """Convert a row of an accepted shape to new canonical ones; other columns are left out.

    Args:
        config: Its format, ties, fold_system and join_turns count.

    Returns:
        One row, or several: a ranking gives all its pairs.

    Raises:
        RowProblem: If the columns fit no format or a value has the wrong type or turns.
    """
    found = find_format(collection, row)
    if found is None:
        raise RowProblem(UNKNOWN_COLUMNS)
    return [found.convert(row)]
