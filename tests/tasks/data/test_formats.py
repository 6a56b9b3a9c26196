"""Every accepted shape of a row becomes the canonical one; what cannot, says why."""

from typing import Any

import pytest

from tasks.data.formats import (
    Collection,
    RowProblem,
    as_messages,
    convert_row,
)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "be kind"}

# (collection, row as read, canonical row)
CASES: list[tuple[Collection, dict[str, Any], dict[str, Any]]] = [
    ("corpus", {"text": " a ", "id": 1}, {"text": " a "}),
    (
        "demonstrations",
        {"prompt": "two words", "completion": " go on", "id": 3},
        {"prompt": "two words", "completion": " go on"},
    ),
    (
        "demonstrations",
        {"prompt": [user("q")], "completion": [assistant("a") | {"name": "x"}]},
        {"prompt": [user("q")], "completion": [assistant("a")]},
    ),
    # One value of the row is messages: the other becomes messages too.
    (
        "demonstrations",
        {"prompt": "q", "completion": assistant("a")},
        {"prompt": [user("q")], "completion": [assistant("a")]},
    ),
    (
        "demonstrations",
        {"prompt": [SYSTEM, user("q")], "completion": "a"},
        {"prompt": [SYSTEM, user("q")], "completion": [assistant("a")]},
    ),
    # The last assistant turn is the completion; a user turn after it is left out.
    (
        "demonstrations",
        {"messages": [user("q"), assistant("a"), user("r"), assistant("b"), user("thanks")]},
        {"prompt": [user("q"), assistant("a"), user("r")], "completion": [assistant("b")]},
    ),
    (
        "preferences",
        {"prompt": "p", "chosen": " c", "rejected": " r", "margin": None},
        {"prompt": "p", "chosen": " c", "rejected": " r"},
    ),
    (
        "preferences",
        {"prompt": "p", "chosen": "c", "rejected": "r", "margin": "0.5"},
        {"prompt": "p", "chosen": "c", "rejected": "r", "margin": 0.5},
    ),
    (
        "preferences",
        {"prompt": [user("p")], "chosen": "c", "rejected": [assistant("r")]},
        {"prompt": [user("p")], "chosen": [assistant("c")], "rejected": [assistant("r")]},
    ),
    # Whole dialogues beside the first prompt: the shared turns are the prompt …
    (
        "preferences",
        {
            "prompt": "p",
            "chosen": [user("p"), assistant("a"), user("q"), assistant("c")],
            "rejected": [user("p"), assistant("a"), user("q"), assistant("r")],
        },
        {
            "prompt": [user("p"), assistant("a"), user("q")],
            "chosen": [assistant("c")],
            "rejected": [assistant("r")],
        },
    ),
    # … unless the given prompt ends with them and says more.
    (
        "preferences",
        {
            "prompt": [SYSTEM, user("p")],
            "chosen": [user("p"), assistant("c")],
            "rejected": [user("p"), assistant("r")],
        },
        {"prompt": [SYSTEM, user("p")], "chosen": [assistant("c")], "rejected": [assistant("r")]},
    ),
    # Implicit prompt in messages.
    (
        "preferences",
        {"chosen": [user("p"), assistant("c")], "rejected": [user("p"), assistant("r")]},
        {"prompt": [user("p")], "chosen": [assistant("c")], "rejected": [assistant("r")]},
    ),
    # Anthropic's transcripts: one turn, several turns, blank lines inside a turn.
    (
        "preferences",
        {
            "chosen": "\n\nHuman: hi\n\nAssistant: hello\n\nthere",
            "rejected": "\n\nHuman: hi\n\nAssistant: go away",
        },
        {
            "prompt": [user("hi")],
            "chosen": [assistant("hello\n\nthere")],
            "rejected": [assistant("go away")],
        },
    ),
    (
        "preferences",
        {
            "chosen": "Human: hi\n\nAssistant: yes?\n\nHuman: 2+2\n\nAssistant: 4 ",
            "rejected": "Human: hi\n\nAssistant: yes?\n\nHuman: 2+2\n\nAssistant: 5 ",
        },
        {
            "prompt": [user("hi"), assistant("yes?"), user("2+2")],
            "chosen": [assistant("4")],
            "rejected": [assistant("5")],
        },
    ),
    # ShareGPT objects in one file where others have texts.
    (
        "preferences",
        {"prompt": "p", "chosen": {"from": "gpt", "value": "c"}, "rejected": "r"},
        {"prompt": [user("p")], "chosen": [assistant("c")], "rejected": [assistant("r")]},
    ),
    ("prompts", {"prompt": "p", "seen_in_train": True}, {"prompt": "p"}),
    ("prompts", {"prompt": [user("p")]}, {"prompt": [user("p")]}),
    ("prompts", {"text": "p"}, {"prompt": "p"}),
    ("prompts", {"messages": [user("p"), assistant("a")]}, {"prompt": [user("p")]}),
    ("prompts", {"messages": [user("p")]}, {"prompt": [user("p")]}),
    (
        "prompts",
        {"chosen": "\n\nHuman: p\n\nAssistant: c", "rejected": "\n\nHuman: p\n\nAssistant: r"},
        {"prompt": [user("p")]},
    ),
]


@pytest.mark.parametrize(("collection", "row", "canonical"), CASES)
def test_row_converts_to_canonical(
    collection: Collection, row: dict[str, Any], canonical: dict[str, Any]
) -> None:
    assert convert_row(collection, row) == [canonical]


HH = "\n\nHuman: hi\n\nAssistant: "

PROBLEMS: list[tuple[Collection, dict[str, Any], str]] = [
    ("corpus", {"body": "a"}, "columns fit no accepted format"),
    ("corpus", {"text": None}, "empty text"),
    ("demonstrations", {"prompt": 3, "completion": "a"}, "wrong type: prompt is neither text"),
    ("demonstrations", {"prompt": [], "completion": "a"}, "empty prompt"),
    ("demonstrations", {"prompt": "q", "completion": []}, "empty completion"),
    (
        "demonstrations",
        {"messages": [user("q"), {"role": "assistant", "content": None}]},
        "wrong type: messages has a message without text",
    ),
    (
        "demonstrations",
        {"messages": [user("q"), {"role": "tool", "content": "3"}, assistant("a")]},
        "messages has a message of role tool, which cannot be kept as text",
    ),
    ("demonstrations", {"messages": [user("q")]}, "messages have no assistant turn"),
    ("demonstrations", {"messages": [assistant("a")]}, "empty prompt"),
    (
        "demonstrations",
        {"messages": [user("q"), assistant("a"), assistant("b")]},
        "prompt does not end with the user's turn",
    ),
    (
        "demonstrations",
        {"prompt": "q", "completion": [assistant("a"), user("b")]},
        "completion is not one assistant message",
    ),
    (
        "preferences",
        {"prompt": "p", "chosen": [user("c")], "rejected": [assistant("r")]},
        "chosen is not one assistant message",
    ),
    (
        "preferences",
        {"chosen": "c", "rejected": HH + "r"},
        "there is no prompt column",
    ),
    (
        "preferences",
        {"chosen": HH + "a\n\nHuman: x\n\nAssistant: c", "rejected": HH + "r"},
        "chosen and rejected differ before the last turn",
    ),
    (
        "preferences",
        {"chosen": HH + "c", "rejected": "\n\nHuman: ho\n\nAssistant: r"},
        "chosen and rejected differ before the last turn",
    ),
    (
        "preferences",
        {"chosen": HH + "a\n\nHuman: c", "rejected": HH + "a\n\nHuman: r"},
        "chosen is not one assistant message",
    ),
    *[
        (
            "preferences",
            {"prompt": "p", "chosen": "c", "rejected": "r", "margin": margin},
            "margin is not a number from 0 to 100",
        )
        for margin in (-0.5, 1e308, float("inf"), "much", True, [1])
    ],
]


@pytest.mark.parametrize(("collection", "row", "reason"), PROBLEMS)
def test_row_refused_with_reason(collection: Collection, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowProblem) as caught:
        convert_row(collection, row)
    assert str(caught.value).startswith(reason)


def test_row_is_not_changed_by_conversion() -> None:
    row = {"messages": [user("q"), assistant("a") | {"name": "x"}]}
    convert_row("demonstrations", row)
    assert row == {"messages": [user("q"), assistant("a") | {"name": "x"}]}


def test_as_messages_turns_texts_into_turns_and_leaves_the_rest() -> None:
    row = {"prompt": "p", "chosen": " c", "rejected": [assistant("r")], "margin": 1.0}
    assert as_messages(row) == {
        "prompt": [user("p")],
        "chosen": [assistant(" c")],
        "rejected": [assistant("r")],
        "margin": 1.0,
    }
    assert as_messages({"text": "t"}) == {"text": "t"}
    contrast = {"prompt": "p", "chosen": "c", "rejected": "r", "respect": "tone"}
    assert as_messages(contrast)["respect"] == "tone"
