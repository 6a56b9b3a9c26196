"""The seam between feedback and whoever compares completions: people, a judge, a simulation.

An annotator reads a prompt with two completions and says which one is better, or abstains. The
feedback stage knows nothing else about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.errors import DataError

# A prompt or a completion: plain text or chat messages.
Content = str | list[dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two completions of one prompt, to be compared."""

    prompt: Content
    first: Content
    second: Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """One compared pair.

    Attributes:
        prompt: what was asked.
        chosen: the better completion.
        rejected: the other one.
        margin: how much better, for annotators who say so.
    """

    prompt: Content
    chosen: Content
    rejected: Content
    margin: float | None = None

    def to_row(self) -> dict[str, Any]:
        """Return the canonical preference row."""
        row = {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected}
        return row if self.margin is None else row | {"margin": self.margin}


class Annotator(Protocol):
    """Anyone who compares completions."""

    def compare(self, comparisons: Sequence[Comparison]) -> list[Preference | None]:
        """Compare each pair; None where the annotator abstains, in the order that was asked."""

    def describe(self) -> dict[str, Any]:
        """Say in plain values who compares and how reliably, for the dataset's report."""


def text_of(content: Content, role: str) -> str:
    """Return plain text as it is, and of messages what the last one of that role says.

    Args:
        content: text or messages.
        role: whose words are wanted: "user" in a prompt, "assistant" in a completion.

    Raises:
        DataError: the messages hold none of that role.
    """
    if isinstance(content, str):
        return content
    for message in reversed(content):
        if message["role"] == role:
            return message["content"]
    got = [message["role"] for message in content]
    raise DataError(f"no message of role {role!r} among roles {got}; add one or pass plain text")
