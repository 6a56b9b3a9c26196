"""Files of results: rows, the JSON lines in which datasets pass from stage to stage, and JSON."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read all rows of a JSON-lines file that a stage has published."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


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
