"""All that a command prints passes one place, and nothing in it is obeyed."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from flows.cli import terminal, use
from tests.tasks.test_escaping import ORDERS

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = " ".join(ORDERS.values())
OBEYED = {"\x1b", "\x07", "\x08", "\r", "\x9b", "\u202e", "\u200b", "\ud83d"}


class _Talk:
    """A model that says what it should not."""

    notice = HOSTILE

    def reply(self, prompt: str) -> Iterator[str]:
        yield from HOSTILE  # letter by letter, so that no order comes in one piece


def test_a_models_answer_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    use._answer(_Talk(), "x")
    said = capsys.readouterr()
    assert "\\x1b]0;owned\\x07" in said.out
    assert not OBEYED & {*said.out, *said.err}


def test_tables_take_no_markup_and_no_order() -> None:
    table = Table("a", "b")
    terminal.add_row(table, "[link=http://evil.example]x[/link] [red]y[/red]", HOSTILE)
    console = Console(width=2000, force_terminal=True, color_system="truecolor")
    with console.capture() as captured:
        console.print(table)
    assert "[link=http://evil.example]x[/link] [red]y[/red]" in captured.get()
    assert "\x1b]" not in captured.get()
    assert not (OBEYED - {"\x1b"}) & set(captured.get())


def test_commands_print_through_one_module() -> None:
    found = []
    for path in sorted((ROOT / "flows").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or path.name == "terminal.py":
                continue
            called = ast.unparse(node.func)
            if called in ("typer.echo", "click.echo"):
                found.append(f"{path.name}: {ast.unparse(node)[:80]}")
            if called == "print" and not ast.unparse(node).startswith("print(for_terminal("):
                found.append(f"{path.name}: {ast.unparse(node)[:80]}")
    assert not found
