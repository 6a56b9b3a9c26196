"""Searches of MLflow: filters on tags, and every page of an answer."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def every(search: Callable[..., Any], **query: Any) -> Iterator[Any]:
    """All that one of the client's searches finds, page by page."""
    token: str | None = None
    while True:
        page = search(**query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def tagged(tags: Mapping[str, str]) -> str:
    """Filter for what carries all these tags."""
    return " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
