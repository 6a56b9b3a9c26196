"""Foreign text at its borders: shown letter for letter, obeyed by nobody."""

import html
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from models.display import hide_passwords
from tasks.escaping import code_span, for_markdown, for_terminal, from_markdown

ORDERS = {
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "link": "\x1b]8;;http://evil.example\x1b\\here\x1b]8;;\x1b\\",
    "clear": "\x1b[2J\x1b[H",
    "eight bits": "\x9b2J \x9d0;owned\x9c",
    "back": "safe\x08\x08\x08\x08evil",
    "return": "safe\revil",
    "form feed": "a\x0cb\x0bc",
    "bell": "\x07",
    "right to left": "a \u202egpj.exe\u202c b",
    "isolate": "\u2066a\u2069 \u200fb\u200e \u061c",
    "invisible": "a\u200bb\ufeffc\u2060d\xade",
    "tags": "a\U000e0041\U000e007f",
    "lines": "a\u2028b\u2029c\x85d",
    "half": "\ud83d x \udc00",
    "null": "a\0b",
    "delete": "a\x7fb",
}
ATTACKS = (
    "![x](http://evil.example/x.png)",
    '<img src="http://evil.example/x.png">',
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "<http://evil.example>",
    "https://evil.example/x and www.evil.example and me@evil.example",
    "&lt;img src=x&gt; &#60;script&#62;",
    "\\<img src=x\\> \\![x](y)",
    "a | b | c",
    "`code` ``more` ~~~x",
    "**bold** __bold__ _x_ *y* ~~z~~ $x^2$ {x}",
    "# heading\n\n- list\n\n1. one\n\n> quote\n\n---\n\n    code",
    "# x", "- x", "+ x", "1. x", "12) x", "> x", "---", "***", "```", "===", "| - |", "[x]: http://y",
    "[x][y] [^1] <!-- x -->",
    "2.13.0 and -5 and snake_case",
)  # fmt: skip
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def visible(rendered: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", rendered)).split())


def kinds(text: str) -> set[str]:
    tokens = MARKDOWN.parse(text)
    inner = [one for token in tokens for one in token.children or ()]
    return {token.type for token in [*tokens, *inner]}


@pytest.mark.parametrize("name", ORDERS)
def test_terminal_shows_orders_and_obeys_none(name: str) -> None:
    shown = for_terminal(ORDERS[name])
    assert all(unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for one in shown)
    shown.encode()
    assert "\\" in shown


@pytest.mark.parametrize(
    "text", ["tab\tand\nnewline", "你好\u3000世界", "👩\u200d👧 نمی\u200cخواهم", "é e\u0301"]
)
def test_terminal_leaves_texts_alone(text: str) -> None:
    assert for_terminal(text) == text
    assert for_terminal("a\r\nb") == "a\nb"


@pytest.mark.parametrize("attack", [*ATTACKS, *ORDERS.values()])
@pytest.mark.parametrize("frame", ["{}", "- {}", "| a |\n|---|\n| {} |", "Note: {}, and more."])
def test_markdown_reads_nothing_but_text(attack: str, frame: str) -> None:
    page = frame.format(for_markdown(attack))
    assert kinds(page) <= kinds(frame.format("words")) | {"text_special"}
    assert not re.search(r"://|www\.|@", page)
    wanted = " ".join(for_terminal(frame.format(attack.replace("\n", " "))).split())
    if "|" not in frame:
        assert visible(MARKDOWN.render(page)) == wanted[2 * frame.startswith("- ") :]


@given(st.text(alphabet=st.sampled_from("ab1 \\`*_{}[]()<>&#+-.!|~$:/@\n\t\"'=^é")))
def test_markdown_is_any_text_and_comes_back(text: str) -> None:
    escaped = for_markdown(text)
    line = " ".join(text.split())
    assert kinds(escaped) <= {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}
    assert visible(MARKDOWN.render(escaped)) == line
    assert from_markdown(escaped) == line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:secret@host:5000/x", "http://me:***@host:5000/x"),
        ("http://me:sec@ret@host/a@b", "http://me:***@host/a@b"),
        ("redis://:se/cret@host and http://a:b@c.", "redis://:***@host and http://a:***@c."),
        ('{"at": "http://a:b@c", "mail": "x@y"}', '{"at": "http://a:***@c", "mail": "x@y"}'),
        ("http://host:80/a", "http://host:80/a"),
    ],
)
def test_passwords_of_addresses_are_hidden_whole(text: str, shown: str) -> None:
    assert hide_passwords(text) == shown


def test_markdown_is_cut_before_it_is_escaped() -> None:
    assert for_markdown("<" * 10, 4) == "&lt;&lt;&lt;…"


@pytest.mark.parametrize("text", ["a`b", "a|b", "`" * 5, "", "\n\n<b>", "\x1b[2J", "![x](y)"])
def test_code_span_cannot_be_ended(text: str) -> None:
    page = f"| a |\n|---|\n| {code_span(text)} |"
    assert kinds(page) <= kinds("| a |\n|---|\n| `x` |")
    assert kinds(code_span(text)) == kinds("`x`")
