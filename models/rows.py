"""Files of results: JSON, and rows, the JSON lines in which datasets pass from stage to stage."""

import hashlib
import heapq
import json
import logging
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from models.errors import DataError

Content: TypeAlias = str | list[dict[str, str]]
"""A prompt or a completion as people give it: plain text or chat messages."""

Row: TypeAlias = dict[str, Any]

MOST_HELD_OUT = 10_000
"""More rows would tell little more, and take memory and time at each checkpoint."""

logger = logging.getLogger(__name__)


def iterate_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read a JSON-lines file that a stage has published, one row at a time."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read all rows of a JSON-lines file that a stage has published."""
    return list(iterate_rows(path))


def first_rows(path: Path, count: int = 1) -> list[dict[str, Any]]:
    """Read so many rows from the beginning of such a file, or all that it has."""
    return list(islice(iterate_rows(path), count))


def count_rows(path: Path) -> int:
    """Count the rows of such a file; none is parsed."""
    with path.open("rb") as lines:
        return sum(1 for _ in lines)


def rows_at(path: Path, places: Sequence[int]) -> list[dict[str, Any]]:
    """Read the rows at some places of such a file, in their order; no other is parsed."""
    wanted = set(places)
    with path.open("rb") as lines:
        found = {at: json.loads(line) for at, line in enumerate(lines) if at in wanted}
    return [found[at] for at in places]


def held_out_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows to measure on: all of a file, or `MOST_HELD_OUT` of a larger one.

    Which ones is decided by their content; they come in the order of the file.
    """
    kept: list[tuple[int, int, bytes]] = []  # a heap, the largest hash on top
    count = 0
    with path.open("rb") as lines:
        for count, line in enumerate(lines, start=1):
            entry = (-zlib.crc32(line), -count, line)
            if len(kept) < MOST_HELD_OUT:
                heapq.heappush(kept, entry)
            else:
                heapq.heappushpop(kept, entry)
    if count > len(kept):
        logger.warning("of the %d rows of %s, %d are measured on", count, path.name, len(kept))
    return [json.loads(line) for _, _, line in sorted(kept, key=lambda one: -one[1])]


def has_messages(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the prompts of rows are lists of messages, which need a chat template."""
    return bool(rows) and not isinstance(rows[0]["prompt"], str)


def prompt_key(row: Mapping[str, Any]) -> str:
    """Text by which rows of one prompt are known, whatever else they hold."""
    return json.dumps(row["prompt"], sort_keys=True, ensure_ascii=False)


def prompt_digest(prompt: Content) -> str:
    """A short name by which the same prompt is known elsewhere."""
    return hashlib.sha256(prompt_key({"prompt": prompt}).encode()).hexdigest()[:16]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as UTF-8 JSON lines and return how many there were."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def write_json(path: Path, value: Any) -> None:
    """Write a result as JSON: records become objects, numbers that are not finite null."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a result that `write_json` wrote, with NaN where it has null."""
    return _restore(json.loads(path.read_text(encoding="utf-8")))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _restore(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _restore(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_restore(one) for one in value]
    return math.nan if value is None else value


def text_of(content: Content, role: str) -> str:
    """Return plain text as it is, and of messages the last one of a role.

    The role is "user" in a prompt, "assistant" in a completion.

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
