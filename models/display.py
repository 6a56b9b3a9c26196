"""Text of models, data and files on its way to a terminal or a log."""

import re

# Control characters but tab and newline; what turns the direction of a line, hides in it or breaks
# it; half characters. Joiners stay: scripts and emoji need them.
_UNSAFE = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def for_terminal(text: str) -> str:
    """Show what a terminal would obey: an escape character becomes the four characters \\x1b.

    So no foreign text can set a title or the clipboard, clear the screen, hide a link, or show its
    letters in another order than they stand.
    """
    return _UNSAFE.sub(lambda found: _visible(found[0]), text.replace("\r\n", "\n"))


def in_one_line(text: str) -> str:
    """The same for a place that holds one line: a newline is shown too."""
    return for_terminal(text).replace("\n", "\\n")


def one_line(foreign: object, characters: int = 300) -> str:
    """A foreign value or message in one short line of characters that can be shown."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(foreign)).split())
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def hide_passwords(text: str) -> str:
    """A text without the passwords of the addresses in it."""
    return re.sub(r"""(://[^:/@\s]*):[^@\s]+@([^@/\s"',]*@)*""", r"\1:***@", text)


def _visible(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
