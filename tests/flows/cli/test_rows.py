"""Rows in the terminal: what is learned from is coloured, or marked where there are no colours."""

import pytest

from flows.cli.rows import HEAD, TAIL, print_rows
from tasks.preview.rows import Piece, ShownRow, Side


def context(*texts: str) -> list[Piece]:
    return [Piece(text=text, learned=False) for text in texts]


def learned(*texts: str) -> list[Piece]:
    return [Piece(text=text, learned=True) for text in texts]


def row(*sides: Side, dropped: str = "") -> ShownRow:
    return ShownRow(collection="preferences", heldout=False, number=3, sides=sides, dropped=dropped)


EOS = Piece(text="<eos>", learned=True, special=True)
PAIR = row(
    Side(name="chosen", pieces=[*context("Who", "?"), *learned("It", " is", " me"), EOS]),
    Side(name="rejected", pieces=[*context("Who", "?"), *learned("It", " was", " me"), EOS]),
)


def test_marks_stand_around_what_is_learned_from(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([PAIR], "token")
    assert capsys.readouterr().out.splitlines()[2:] == [
        "preferences, training row 3",
        "  prompt, 2 tokens: Who?",
        "  chosen, 4 tokens: ⟦It is me<eos>⟧",
        "  rejected, 4 tokens: ⟦It was me<eos>⟧",
    ]


def test_what_differs_between_the_sides_is_underlined(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    print_rows([PAIR], "token")
    out = capsys.readouterr().out
    assert "\x1b[4;92m is\x1b[0m" in out  # 4 underlined, 92 bright green
    assert "\x1b[4;92m was\x1b[0m" in out
    assert "\x1b[32mIt\x1b[0m" in out
    assert "\x1b[1;30;42m<eos>\x1b[0m" in out
    assert "⟦" not in out


def test_several_turns_are_marked_each(capsys: pytest.CaptureFixture[str]) -> None:
    pieces = [*context("A", ":"), *learned("b", "c"), *context("D"), *learned("e")]
    print_rows([row(Side(name="completion", pieces=pieces))], "token")
    assert "completion, 6 tokens: A:⟦bc⟧D⟦e⟧\n" in capsys.readouterr().out


def test_long_runs_are_shortened_in_their_middle(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [f" w{at}" for at in range(200)]
    print_rows([row(Side(name="text", pieces=learned(*texts)))], "word")
    out = capsys.readouterr().out
    left_out = 200 - HEAD - TAIL
    assert f" w{HEAD - 1} [… {left_out} words …]  w{HEAD + left_out}" in out
    assert "w199⟧" in out


def test_what_is_cut_off_and_left_out_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    side = Side(name="prompt", pieces=context("now"), cut="once", cut_tokens=1)
    print_rows([row(side), row(dropped="too long")], "token")
    out = capsys.readouterr().out
    assert "prompt, 1 token: [1 token cut off: once] now\n" in out
    assert "left out of training: too long" in out


def test_line_breaks_and_orders_to_the_terminal_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows([row(Side(name="text", pieces=context("a\n\tb", "\x1b[2J", "[red]c")))], "word")
    assert "a↵⇥b\\x1b[2J[red]c\n" in capsys.readouterr().out
