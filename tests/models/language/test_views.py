"""One row as the model sees it: the tokens of training, which of them count, and what was cut."""

from typing import Any

import pytest

from models.errors import DataError
from models.language.examples import encode_demonstrations, encode_pairs
from models.language.tokenizer import encode_prompt
from models.language.views import RowView, view_row

CHAT = [
    {"role": "user", "content": "what is the cat?"},
    {"role": "assistant", "content": "the cat sat"},
    {"role": "user", "content": "and the dog?"},
]
ANSWER = [{"role": "assistant", "content": "你好 a dog"}]


def _ids(view: RowView, side: int = 0) -> list[int]:
    return [token for piece in view.sides[side].pieces for token in piece.ids]


def _text(view: RowView, counts: bool, side: int = 0) -> str:
    return "".join(piece.text for piece in view.sides[side].pieces if piece.counts == counts)


def test_a_demonstration_shows_its_tokens_and_what_counts(tokenizer: Any) -> None:
    row = {"prompt": CHAT, "completion": ANSWER}
    view = view_row(tokenizer, "demonstrations", row, max_tokens=64)
    learned = encode_demonstrations(tokenizer, [row], 64)
    assert _ids(view) == learned.prompts[0] + learned.completions[0]
    assert _text(view, True) == "the cat sat<|eos|>你好 a dog<|eos|>"
    assert _text(view, False) == "<|user|>what is the cat?<|assistant|><|user|>and the dog?" + (
        "<|assistant|>"
    )
    last = view_row(tokenizer, "demonstrations", row, max_tokens=64, turns="last")
    assert _text(last, True) == "你好 a dog<|eos|>"
    assert (view.dropped, view.sides[0].cut) == ("", "")


def test_a_piece_spells_whole_characters(tokenizer: Any) -> None:
    row = {"text": "naïve 🧑‍🚀 你"}
    view = view_row(tokenizer, "corpus", row, max_tokens=64)
    pieces = view.sides[0].pieces
    assert "".join(piece.text for piece in pieces) == row["text"] + "<|eos|>"
    assert not [piece for piece in pieces if "\ufffd" in piece.text]
    assert max(len(piece.ids) for piece in pieces) > 1  # bytes of one character
    assert all(piece.counts for piece in pieces)


def test_what_is_cut_of_a_prompt_is_shown(tokenizer: Any) -> None:
    text = "what is the sum of two and three?"
    view = view_row(tokenizer, "prompts", {"prompt": text}, max_tokens=4)
    assert _ids(view) == encode_prompt(tokenizer, text, 4)
    assert view.sides[0].cut + _text(view, False) == text
    whole = len(encode_prompt(tokenizer, CHAT, 64))
    shorter = view_row(tokenizer, "prompts", {"prompt": CHAT}, max_tokens=whole - 1)
    assert shorter.sides[0].cut == "user: what is the cat?\nassistant: the cat sat"
    last = len(encode_prompt(tokenizer, CHAT[2:], 64))
    within = view_row(tokenizer, "prompts", {"prompt": CHAT}, max_tokens=last - 2)
    *_, cut = within.sides[0].cut.split("\nuser: ")
    assert f"<|user|>{CHAT[2]['content']}<|assistant|>" == "<|user|>" + cut + (
        _text(within, False).removeprefix("<|user|>")
    )


def test_a_preference_shows_both_sides_after_one_prompt(tokenizer: Any) -> None:
    row = {"prompt": "the cat sat", "chosen": " on the mat and slept", "rejected": " home"}
    pairs = encode_pairs(tokenizer, [row], 64)
    view = view_row(tokenizer, "preferences", row, max_tokens=64)
    assert [side.name for side in view.sides] == ["chosen", "rejected"]
    assert (_ids(view, 0), _ids(view, 1)) == (*pairs.chosen_sequences, *pairs.rejected_sequences)
    assert _text(view, True, 1) == " home<|eos|>"
    room = len(pairs.chosen[0]) + 1
    short = view_row(tokenizer, "preferences", row, max_tokens=room)
    assert [side.cut for side in short.sides] == [short.sides[0].cut] * 2
    assert short.sides[0].cut + _text(short, False, 1) == "the cat sat"


@pytest.mark.parametrize(
    ("collection", "row", "reason"),
    [
        (
            "demonstrations",
            {"prompt": "a", "completion": " mat" * 99},
            "its completion alone fills 9 tokens",
        ),
        (
            "preferences",
            {"prompt": "a", "chosen": " mat" * 99, "rejected": "b"},
            "a completion alone fills 9 tokens",
        ),
        (
            "preferences",
            {"prompt": "a", "chosen": "b", "rejected": "b"},
            "chosen and rejected have the same tokens",
        ),
    ],
)
def test_a_row_that_training_leaves_out_says_why(
    tokenizer: Any, collection: Any, row: dict[str, Any], reason: str
) -> None:
    assert view_row(tokenizer, collection, row, max_tokens=9) == RowView(sides=[], dropped=reason)


def test_messages_that_the_template_refuses_are_an_error(tokenizer: Any) -> None:
    row = {"prompt": [{"role": "tool", "content": "x"}]}
    with pytest.raises(DataError, match="the chat template refuses"):
        view_row(tokenizer, "prompts", row, max_tokens=9)
