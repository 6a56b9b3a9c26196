"""Foreign text on its way to people: one function for each border that it crosses.

Whatever a model, a row, a file's name or a server says is shown as what it is and never obeyed, by
no terminal and no page: Prefect's and MLflow's pages would fetch its pictures and run its links.
"""

import html
import re

from models.display import for_terminal, in_one_line

__all__ = ["code_span", "for_markdown", "for_terminal", "from_markdown", "in_one_line"]

_SPECIAL = re.compile(r"([\\`*{}\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
_ADDRESS = re.compile(r":(?=//)|(?<=www)\.|@", re.IGNORECASE)
_BLOCK = re.compile(r"^(\d*)(?=[#+.)-]+(?: |$))")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]|~$#+.)-])")


def for_markdown(text: str, characters: int | None = None) -> str:
    """Write a text so that Markdown and HTML read it as nothing but text, in one line.

    Args:
        characters: Of the text that are shown at most; None for all.
    """
    line = " ".join(for_terminal(text).split())
    if characters is not None and len(line) > characters:
        line = f"{line[: characters - 1]}…"
    line = html.escape(line, quote=False)
    line = _ADDRESS.sub(lambda found: f"&#{ord(found[0])};", line)  # no link makes itself
    line = _SPECIAL.sub(r"\\\1", line)
    return _BLOCK.sub(r"\1\\", line)  # no heading, list or quotation begins


def code_span(text: str) -> str:
    """A text between backticks, which it cannot end."""
    return f"`{in_one_line(text).replace('`', chr(39)).replace('|', '¦') or ' '}`"


def from_markdown(text: str) -> str:
    """Markdown for a terminal: what was escaped for pages stands there as it is."""
    return for_terminal(html.unescape(_ESCAPED.sub(r"\1", text)))
