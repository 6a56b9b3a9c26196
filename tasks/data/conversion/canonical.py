"""From an example to canonical rows of the collection that is wanted.

A row is all texts or all messages: where one value is messages, a prompt text becomes one user
message and a completion text one assistant message. Options that change messages apply before the
last turn is split off.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tasks.data.config import DataConfig
from tasks.data.conversion.dialogues import as_turns
from tasks.data.conversion.records import (
    Collection,
    Content,
    Example,
    LeftOut,
    Message,
    Pair,
    Row,
    RowProblem,
)

TIE = "tie: neither is better"
NO_RANKING = "a tree without a prompt that has two ranked replies"
_APART = "\n\n"


def as_messages(row: Mapping[str, Any]) -> Row:
    """The conversational form of a canonical row; other columns stay as they are."""
    roles = dict.fromkeys(("completion", "chosen", "rejected"), "assistant") | {"prompt": "user"}
    return {
        column: as_turns(value, roles[column])
        if column in roles and isinstance(value, str)
        else value
        for column, value in row.items()
    }


def rows_of(
    collection: Collection, example: Example, config: DataConfig, dropped: Counter[str]
) -> list[Row]:
    """Make canonical rows of an example.

    Args:
        collection: What rows are wanted.
        example: As its format read it.
        config: Its ties, fold_system and join_turns count.
        dropped: Counts pairs that are left out where others of the example are kept.

    Raises:
        RowProblem: The example has nothing for the collection.
    """
    if collection == "corpus":
        return [{"text": example.text}]
    if collection == "prompts":
        return [{"prompt": _prompt(example, config)}]
    if collection == "demonstrations":
        if example.problem:
            raise example.problem
        if example.completion is None:
            raise RowProblem("empty completion")
        return [_demonstration(example.prompt, example.completion, config)]
    rows = []
    problems: list[RowProblem] = []
    for pair in example.pairs:
        try:
            rows.append(_preference(example.prompt, pair, config))
        except RowProblem as problem:
            problems.append(problem)
    if not rows:
        for why in filter(None, (*problems, example.problem)):
            raise why
        raise LeftOut("no pairs")
    dropped.update(map(str, problems))
    return rows


def rows_of_tree(
    collection: Collection, examples: list[Example], config: DataConfig, dropped: Counter[str]
) -> list[Row]:
    """Make canonical rows of all examples of a tree; those without pairs count for prompts only.

    Raises:
        RowProblem: None of them has anything for the collection.
    """
    if collection == "preferences":
        examples = [example for example in examples if example.pairs]
    rows: list[Row] = []
    problems = []
    for example in examples:
        try:
            rows += rows_of(collection, example, config, dropped)
        except RowProblem as problem:
            problems.append(problem)
    if not rows:
        raise problems[0] if problems else LeftOut(NO_RANKING)
    dropped.update(map(str, problems))
    return rows


def fold_system(messages: list[Message]) -> list[Message]:
    """Put the text of leading system messages in front of the first user turn's."""
    first = next((i for i, turn in enumerate(messages) if turn["role"] != "system"), 0)
    if not first or messages[first]["role"] != "user":
        return messages
    texts = [turn["content"] for turn in messages[: first + 1]]
    return [{"role": "user", "content": _APART.join(texts)}, *messages[first + 1 :]]


def join_turns(messages: list[Message]) -> list[Message]:
    """Join neighbouring messages of one role into one."""
    joined: list[Message] = []
    for turn in messages:
        if joined and joined[-1]["role"] == turn["role"]:
            text = joined[-1]["content"] + _APART + turn["content"]
            joined[-1] = joined[-1] | turn | {"content": text}
        else:
            joined.append(turn)
    return joined


def _with_options(messages: list[Message], config: DataConfig) -> list[Message]:
    if config.fold_system:
        messages = fold_system(messages)
    return join_turns(messages) if config.join_turns else messages


def _without_weights(messages: list[Message]) -> list[Message]:
    """Messages as they are outside demonstrations, where no turn is learned from."""
    return [{"role": turn["role"], "content": turn["content"]} for turn in messages]


def _ends_with_user(messages: list[Message]) -> list[Message]:
    if not messages:
        raise RowProblem("empty prompt")
    if messages[-1]["role"] != "user":
        raise RowProblem("prompt does not end with the user's turn")
    return messages


def _prompt(example: Example, config: DataConfig) -> Content:
    prompt = example.question or example.prompt
    if prompt is None:
        if example.problem and not example.pairs:
            raise example.problem
        if not example.pairs:
            raise RowProblem("empty prompt")
        prompt = _split_pair(prompt, example.pairs[0], config)[0]
    if isinstance(prompt, str):
        return prompt
    return _ends_with_user(_without_weights(_with_options(prompt, config)))


def _split(
    prompt: Content | None, completion: Content, column: str, config: DataConfig
) -> tuple[list[Message], list[Message]]:
    """Prompt and last turn of a prompt and what follows it, after the options."""
    before = [] if prompt is None else as_turns(prompt, "user")
    after = as_turns(completion, "assistant")
    if not after:
        raise RowProblem(f"empty {column}")
    messages = _with_options([*before, *after], config)
    if column != "completion":
        messages = _without_weights(messages)
    return messages[:-1], messages[-1:]


def _demonstration(prompt: Content | None, completion: Content, config: DataConfig) -> Row:
    if isinstance(prompt, str) and isinstance(completion, str):
        return {"prompt": prompt, "completion": completion}
    if any(turn["role"] != "assistant" for turn in as_turns(completion, "assistant")):
        raise RowProblem("completion is not one assistant message")
    before, last = _split(prompt, completion, "completion", config)
    if "weight" in last[0]:
        raise LeftOut("the last turn has weight 0: it is not to be learned from")
    return {"prompt": _ends_with_user(before), "completion": last}


def _split_pair(
    prompt: Content | None, pair: Pair, config: DataConfig
) -> tuple[list[Message], list[Message], list[Message]]:
    shared, chosen = _split(prompt, pair.chosen, "chosen", config)
    other, rejected = _split(prompt, pair.rejected, "rejected", config)
    if shared != other:
        raise LeftOut("chosen and rejected differ before the last turn")
    return shared, chosen, rejected


def _preference(prompt: Content | None, pair: Pair, config: DataConfig) -> Row:
    if pair.contradiction:
        raise LeftOut(pair.contradiction)
    if pair.tie and config.ties == "drop":
        raise LeftOut(TIE)
    if isinstance(prompt, str) and isinstance(pair.chosen, str) and isinstance(pair.rejected, str):
        row: Row = {"prompt": prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    else:
        shared, chosen, rejected = _split_pair(prompt, pair, config)
        for column, turn in (("chosen", chosen), ("rejected", rejected)):
            if turn[0]["role"] != "assistant":
                raise RowProblem(f"{column} is not one assistant message")
        row = {"prompt": _ends_with_user(shared), "chosen": chosen, "rejected": rejected}
    if pair.margin is not None:
        row["margin"] = pair.margin
    return row | {"tie": True} if pair.tie else row
