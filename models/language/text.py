"""Prompts and completions as people give them: plain text or chat messages."""

from typing import TypeAlias

from models.errors import DataError

Content: TypeAlias = str | list[dict[str, str]]
"""A prompt or a completion."""


def text_of(content: Content, role: str) -> str:
    """Return plain text as it is, and of messages the last one of a role.

    Args:
        content: Text or messages.
        role: Whose text is wanted: "user" in a prompt, "assistant" in a completion.

    Raises:
        DataError: No message has that role.
    """
    if isinstance(content, str):
        return content
    for message in reversed(content):
        if message["role"] == role:
            return message["content"]
    got = [message["role"] for message in content]
    raise DataError(f"no message of role {role!r} among roles {got}; add one or pass plain text")


def last_text(content: Content) -> str:
    """Return plain text as it is, and of messages the last one, whoever wrote it."""
    return content if isinstance(content, str) else content[-1]["content"]
