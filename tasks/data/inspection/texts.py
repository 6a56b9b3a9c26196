"""The texts of a canonical row that are compared: its prompt, and the prompt with a completion.

A system message is left out: one that all rows share would make all of them alike.
"""

from dataclasses import dataclass
from typing import Any

from tasks.data.formats import Collection, Row

COMPLETIONS: dict[Collection, tuple[str, ...]] = {
    "corpus": ("text",),
    "demonstrations": ("completion",),
    "preferences": ("chosen", "rejected"),
    "prompts": (),
}
"""The columns whose texts are learned, by collection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A text in two parts; the prompt of a corpus row, and the completion of a prompt, is empty."""

    prompt: str = ""
    completion: str = ""
    messages: bool = False

    @property
    def whole(self) -> str:
        """Both, as a corpus would hold them."""
        return (
            f"{self.prompt}\n{self.completion}" if self.messages else self.prompt + self.completion
        )

    def beginning(self, characters: int) -> "Parts":
        """The first characters of each part."""
        return Parts(
            prompt=self.prompt[:characters],
            completion=self.completion[:characters],
            messages=self.messages,
        )


def content_of(value: Any) -> str:
    """A plain text, or what the messages but those of the system say."""
    if isinstance(value, str):
        return value
    return "\n".join(one["content"] for one in value if one["role"] != "system")


def prompt_of(row: Row) -> Parts:
    """The prompt of a row; empty in a corpus."""
    return Parts(prompt=content_of(row.get("prompt", "")))


def texts_of(collection: Collection, row: Row) -> list[Parts]:
    """The whole texts of a row: one for each column that is learned."""
    prompt = row.get("prompt", "")
    messages = not isinstance(prompt, str)
    return [
        Parts(prompt=content_of(prompt), completion=content_of(row[column]), messages=messages)
        for column in COMPLETIONS[collection]
    ]
