"""Text files: lines where they are texts, running text where that is said, a question else."""

from collections.abc import Callable
from typing import Any

import pytest

from tasks.data.reading.texts import DOCUMENT_CHARACTERS

Read = Callable[..., tuple[list[dict[str, Any]], str]]
Refused = Callable[..., str]

PLAY = "ADA:\nWhere is it?\n\nBEN:\nHere.\n\nADA:\nAnd now?\n\nBEN:\nGone.\n\nADA:\nThank you.\n"
PROSE = (
    "It was late when the boat came\nback to the harbour, and nobody\nwaited for it.\n\n"
    "In the morning the rope was\ngone, and with it the anchor\nand the small red flag.\n"
)
VERSE = "The sea is wide\nThe wind is cold\n\nThe boat is mine\nThe rope is old\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (PLAY, "repeat others"),
        ("A:\nOne thing.\n\nB:\nAnother.\n\nC:\nA third.\n", "names with a colon"),
        (PROSE, "paragraphs of several lines"),
        (PROSE.replace("\n\n", "\n"), "go on in the next"),
        (VERSE, "paragraphs of several lines"),
    ],
)
def test_text_that_may_be_running_is_asked_about(refused: Refused, text: str, why: str) -> None:
    message = refused("a.txt", text)
    for word in (why, "data.text=documents", "data.text=lines"):
        assert word in message


@pytest.mark.parametrize(
    "text",
    ["A sentence.\nAnother one.\n", "One article.\n\nThe next one.\n\nA third.\n", "ORCA x\n"],
)
def test_lines_that_are_clearly_texts_are_read_and_said(read: Read, text: str) -> None:
    rows, notes = read("a.txt", text)
    assert [row["text"] for row in rows] == [line for line in text.split("\n") if line]
    assert "each line is a text" in notes


def test_lines_are_read_where_that_is_said(read: Read) -> None:
    assert [row["text"] for row in read("a.txt", PLAY, text="lines")[0]][:2] == [
        "ADA:",
        "Where is it?",
    ]


def test_running_text_keeps_every_character_in_documents(read: Read) -> None:
    text = PLAY * 400 + "no end of line"
    rows, notes = read("a.txt", text.replace("\n", "\r\n"), text="documents")
    documents = [row["text"] for row in rows]
    assert "".join(documents) == text + "\n"
    assert all(document.endswith("\n\n") for document in documents[:-1])  # at paragraphs
    assert all(len(one) <= DOCUMENT_CHARACTERS + len(PLAY) for one in documents)
    assert "running text" in notes


def test_running_text_without_paragraphs_is_cut_at_lines(read: Read) -> None:
    text = "a line of the text\n" * 2_000
    documents = [row["text"] for row in read("a.txt", text, text="documents")[0]]
    assert "".join(documents) == text
    assert max(map(len, documents)) < 2.1 * DOCUMENT_CHARACTERS
