"""Prepared rows in the terminal, coloured by what of them is learned from."""

from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile

from rich.console import Console
from rich.text import Text

from flows.cli.terminal import as_text
from tasks.escaping import for_terminal
from tasks.preview.rows import Piece, ShownRow, Side

HEAD, TAIL, SPARED = 24, 40, 10
"""Pieces of a long run that are shown at its beginning and its end; fewer are not left out."""

CUT_CHARACTERS = 80

LEARNED = ("green", "bright_green")
CONTEXT = ("bright_black", "grey62")
"""Two shades each, so that neighbouring pieces can be told apart."""

DIFFERS = "underline"
SPECIAL, LEARNED_SPECIAL, CUT = "magenta", "bold black on green", "red strike"
MARKS = "⟦", "⟧"
"""Around what is learned from, where there are no colours."""


def print_rows(rows: Sequence[ShownRow], unit: str) -> None:
    """Print rows with what the colours mean.

    Args:
        unit: What a piece is: token or word.
    """
    console = Console(highlight=False, soft_wrap=True)
    plain = console.color_system is None
    legend = Text("learned from", LEARNED[0])
    if plain:
        legend = Text("learned from").join([Text(MARKS[0]), Text(MARKS[1])])
    parts = [legend, Text("context", CONTEXT[0])]
    if unit == "token":
        parts += [Text("special token", SPECIAL), Text("cut off", CUT)]
    console.print(Text(", ").join(parts))
    for row in rows:
        console.print()
        for line in _lines(row, unit, plain):
            console.print(line)


def _lines(row: ShownRow, unit: str, plain: bool) -> Iterator[Text]:
    part = "held-out" if row.heldout else "training"
    yield as_text(f"{row.collection}, {part} row {row.number}", "bold")
    if row.dropped:
        yield as_text(f"  left out of training: {row.dropped}", "red")
    if len(row.sides) == 1:
        (side,) = row.sides
        name = "prompt and completion" if side.name == "completion" else side.name
        yield _line(name, side, side.pieces, unit, plain)
    elif row.sides:
        prompts = [list(takewhile(lambda piece: not piece.learned, s.pieces)) for s in row.sides]
        yield _line("prompt", row.sides[0], prompts[0], unit, plain)
        rests = [s.pieces[len(p) :] for s, p in zip(row.sides, prompts, strict=True)]
        before, behind = _equal(*rests), _equal(*(rest[::-1] for rest in rests))
        for side, rest in zip(row.sides, rests, strict=True):
            differs = range(before, max(len(rest) - behind, before))
            yield _line(side.name, None, rest, unit, plain, differs)


def _equal(first: Sequence[Piece], second: Sequence[Piece]) -> int:
    """How many pieces two sides have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second)))  # noqa: B905


def _line(
    name: str,
    cut_from: Side | None,
    pieces: Sequence[Piece],
    unit: str,
    plain: bool,
    differs: range = range(0),
) -> Text:
    """One sequence; of long runs the middle is left out."""
    line = as_text(f"  {name}, {_number(len(pieces), unit)}: ")
    if cut_from is not None and cut_from.cut:
        line.append(as_text(f"[{_number(cut_from.cut_tokens, unit)} cut off: ", "red"))
        line.append(_shown(cut_from.cut[:CUT_CHARACTERS], CUT))
        line.append(as_text("…] " if len(cut_from.cut) > CUT_CHARACTERS else "] ", "red"))
    for learned, run in groupby(enumerate(pieces), key=lambda pair: pair[1].learned):
        here = list(run)
        if learned and plain:
            line.append(MARKS[0])
        left_out = len(here) - HEAD - TAIL
        left_out = left_out if left_out >= SPARED else 0
        for at, (index, piece) in enumerate(here):
            if left_out and at == HEAD:
                line.append(as_text(f" [… {_number(left_out, unit)} …] ", "red"))
            if not left_out or at < HEAD or at >= HEAD + left_out:
                line.append(_shown(piece.text, _style(piece, index, differs)))
        if learned and plain:
            line.append(MARKS[1])
    return line


def _number(count: int, unit: str) -> str:
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def _style(piece: Piece, index: int, differs: range) -> str:
    if piece.special:
        return LEARNED_SPECIAL if piece.learned else SPECIAL
    shade = (LEARNED if piece.learned else CONTEXT)[index % 2]
    return f"{shade} {DIFFERS}" if index in differs else shade


def _shown(text: str, style: str) -> Text:
    return Text(for_terminal(text).replace("\n", "↵").replace("\t", "⇥"), style)
