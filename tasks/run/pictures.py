"""Pictures inside a text: Markdown and HTML that need no server to fetch them from."""

import base64
from collections.abc import Sequence
from pathlib import Path


def picture_data(picture: Path) -> str:
    """A PNG as an address that holds all of it."""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def inline_pictures(pictures: Sequence[Path]) -> str:
    """PNGs as Markdown, in this order."""
    return "\n\n".join(f"![{one.stem}]({picture_data(one)})" for one in pictures)
