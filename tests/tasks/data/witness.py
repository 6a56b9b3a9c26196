"""What becomes of a file that somebody brings: the rows kept, and everything that is said of it.

The tests of damage, encodings and field cases share it. It knows the faces of reading and judging
and nothing behind them.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.errors import DataError
from tasks.data.build import build_datasets
from tasks.data.config import DataConfig
from tasks.data.files import open_rows
from tasks.data.formats import Collection
from tasks.data.quality import Tally, admit_rows

LONGEST_MESSAGE = 2_000

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The rows kept of one file, or of a build, and every word of it.

    Attributes:
        kept: Canonical rows; a lone message is given as its text.
        said: The refusal, the notes, the reasons and the counts, in one text.
        refused: The refusal; empty if the file was read.
        read: Rows read.
        made: Rows read, and the more that rankings became and weights repeated.
        dropped: Rows dropped, by reason.
    """

    kept: list[Row]
    said: str
    refused: str = ""
    made: int = 0
    read: int = 0
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def reasons(self) -> str:
        """The refusal, or the reasons of dropped rows."""
        return self.refused or str(self.dropped)


def plain(row: Row) -> Row:
    """A canonical row in the form that two equal rows share: a lone message is its text."""

    def one(value: Any) -> Any:
        if isinstance(value, list) and len(value) == 1:
            return value[0]["content"]
        return value

    return {column: one(value) for column, value in row.items()}


def one_line(error: DataError) -> str:
    """The refusal's text, if it is one line of what, got, wanted and remedy."""
    message = str(error)
    assert "\n" not in message, message
    assert message.isprintable(), repr(message)
    assert len(message) <= LONGEST_MESSAGE, message
    assert ";" in message, message  # the remedy
    return message


def filled(record: Any) -> Any:
    """A record's fields, without those that count nothing."""
    if not dataclasses.is_dataclass(record):
        return str(record)
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    return {name: value for name, value in values.items() if value}


def bring(
    path: Path, collection: Collection, *, text: str = "ask", encoding: str = "", **options: Any
) -> Outcome:
    """Read one file as one collection."""
    config = DataConfig(text=text, encoding=encoding, **options)
    tally = Tally()
    try:
        file = open_rows(path, text=config.text, encoding=encoding)
        raw = list(file)
        kept = list(admit_rows(collection, raw, label=file.label, tally=tally, config=config))
    except DataError as error:
        message = one_line(error).replace(f"{path.parent}/", "")
        return Outcome(kept=[], said=message, refused=message)
    said = json.dumps([file.notes, filled(tally)], ensure_ascii=False, default=filled)
    return Outcome(
        kept=[plain(row) for row in kept],
        said=said,
        read=tally.read,
        made=tally.read + tally.expanded,
        dropped=dict(tally.dropped),
    )


def jsonl(rows: Sequence[Any], encoding: str = "utf-8") -> bytes:
    """Rows as JSON lines, their letters as they are."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(encoding)


def prepared(collection: Collection, source: str, out: Path, **fields: Any) -> Outcome:
    """Build all datasets, one collection of them from a source."""
    pairs = out / "pairs.jsonl"
    out.mkdir()
    pairs.write_bytes(
        jsonl([{"prompt": f"Is {n} odd?", "chosen": "Count.", "rejected": "."} for n in range(20)])
    )
    sources = {"preferences": str(pairs)} | {collection: source} | fields
    try:
        build_datasets(DataConfig(source="sources", heldout_fraction=0.3, **sources), 0, out)
    except DataError as error:
        return Outcome(kept=[], said=one_line(error), refused=one_line(error))
    kept = [
        plain(json.loads(line))
        for side in ("train", "heldout")
        for line in (out / f"{collection}_{side}.jsonl").read_text("utf-8").splitlines()
    ]
    quality = (out / "quality.json").read_text("utf-8")
    found = next(each for each in json.loads(quality)["collections"] if each["name"] == collection)
    made = found["read"] + found["expanded"] + found["repeated"]
    dropped = found["dropped"]
    return Outcome(kept=kept, said=quality, read=found["read"], made=made, dropped=dropped)
