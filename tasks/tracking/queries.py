"""What MLflow is asked for: filters, and answers of many pages."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

BELOW = ("stage", "comparison")
PARENTS = " and ".join(f"tags.`quartet.kind` != '{kind}'" for kind in BELOW)
"""Filter for runs of flows, which have the runs of stages below them."""


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
