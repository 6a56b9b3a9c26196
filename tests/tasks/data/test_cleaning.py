"""What is removed from texts, and that nothing else is touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.data.cleaning import clean_row, clean_text, has_placeholder


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("\x1b[1;31mred\x1b[0m rose", "red rose"),
        ("\x1b]0;title\x07shell", "shell"),
        ("\x1b]8;;link\x1b\\shell", "shell"),
        ("\x1b(lone", "(lone"),
        ("humanity of\x85emotional", "humanity of emotional"),
        ("half \ud83d emoji", "half \ufffd emoji"),
        ("\u2028 \t kept \n ", "\u2028 \t kept \n "),
    ],
)
def test_text_loses_control_sequences_only(text: str, clean: str) -> None:
    assert clean_text(text) == clean


@given(st.text(st.characters(exclude_characters="\x1b\x85", exclude_categories=["Cs"])))
def test_text_without_suspects_is_unchanged(text: str) -> None:
    assert clean_text(text) == text


@given(st.text(st.sampled_from("\x1b[]m;0\x85\ud800\x07 a\\")))
def test_text_is_storable_and_stable_after_cleaning(text: str) -> None:
    clean = clean_text(text)
    clean.encode()
    assert "\x1b" not in clean
    assert "\x85" not in clean
    assert clean_text(clean) == clean


def test_row_is_cleaned_in_texts_and_messages() -> None:
    row = {
        "prompt": [{"role": "user", "content": "a\x85b"}],
        "chosen": "c\x85d",
        "margin": 1.0,
    }
    assert clean_row(row) == {
        "prompt": [{"role": "user", "content": "a b"}],
        "chosen": "c d",
        "margin": 1.0,
    }
    assert row["chosen"] == "c\x85d"


@pytest.mark.parametrize(
    ("text", "found"),
    [("I am {{name}}.", True), ("{{ author }}", True), ("{name}", False), ("{{a + b}}", False)],
)
def test_placeholder_is_found(text: str, found: bool) -> None:
    assert has_placeholder({"prompt": "p", "completion": text}) is found
    turn = {"role": "assistant", "content": text}
    assert has_placeholder({"prompt": "p", "completion": [turn]}) is found
