"""Rows of one content, whatever it is: the one place that knows all kinds."""

import re
from collections.abc import Iterator

from models.errors import DataError
from models.files import listed, shown
from tasks.data.config import TextMode
from tasks.data.reading.columnar import read_columnar
from tasks.data.reading.encodings import choose_decoding
from tasks.data.reading.json_rows import Row, read_json
from tasks.data.reading.lines import MARK, Decoding
from tasks.data.reading.packing import Content, members
from tasks.data.reading.recognition import (
    container_of,
    foreign,
    packing_of,
    refuse_foreign,
)
from tasks.data.reading.tables import read_table
from tasks.data.reading.texts import read_text

_JSON = (".json", ".jsonl", ".ndjson")
_TABLES = (".csv", ".tsv")


def read_content(
    content: Content, encoding: str, text: TextMode, notes: list[str], *, inside: bool = False
) -> Iterator[Row]:
    """Read the rows of a content by what it is; its ending is a hint.

    Args:
        encoding: Of a text; empty = detected.
        text: What lines of a text file are.
        notes: Is told what had to be assumed.
        inside: Whether it is a member of an archive, which may hold no other.

    Raises:
        DataError: It is empty, damaged, or in a form that is not read.
    """
    head = content.head()
    if not head:
        return
    container = container_of(head)
    if packing_of(head):
        raise foreign(content.name, f"packed twice ({packing_of(head)})", "unpack it once")
    if container in ("zip", "tar"):
        if inside:
            raise foreign(content.name, f"an archive ({container}) in an archive", "unpack it once")
        said: dict[str, list[str]] = {}
        for member in members(content, container, notes):
            told: list[str] = []
            yield from read_content(member, encoding, text, told, inside=True)
            for note in told:
                said.setdefault(note, []).append(member.name.removeprefix(f"{content.name}/"))
        notes += [f"{listed(names, 3)}: {note}" for note, names in said.items()]
        return
    if container:
        if content.ending not in (".parquet", ".arrow"):
            notes.append(f"by its content a {container} file")
        yield from read_columnar(content, container)
        return
    refuse_foreign(content.name, head)
    if content.ending in (".parquet", ".arrow"):
        raise DataError(
            f"{shown(content.name)} cannot be read: its content is no {content.ending[1:]}; wanted "
            f"a whole {content.ending[1:]} file because of its ending; replace or rename it"
        )
    decoding = choose_decoding(content, encoding, notes)
    kind = _kind(content, decoding)
    usual = ".json" if content.ending in _JSON else ".csv" if content.ending in _TABLES else ".txt"
    if kind != usual:
        names = {".json": "JSON", ".csv": "a table with a header", ".txt": "text"}
        notes.append(f"by its content {names[kind]}, whatever its ending says")
    if kind == ".json":
        yield from read_json(content, decoding, notes)
    elif kind == ".csv":
        yield from read_table(content, decoding, notes)
    else:
        yield from read_text(content, decoding, text, notes)


def _kind(content: Content, decoding: Decoding) -> str:
    """JSON, a table or a text, by the ending unless the first lines say otherwise."""
    with decoding.open(content) as file:
        lines = [file.readline(2**16).strip(f"{MARK}\r\n ") for _ in range(50)]
    lines = [line for line in lines if line]
    if content.ending in _JSON or not lines:
        return ".json" if content.ending in _JSON else ".txt"
    if re.match(r'(\[\s*)?(\{\s*("|$)|$)', "".join(lines[:2])):
        return ".json"
    if content.ending in _TABLES:
        return ".csv"
    tabs = {line.count("\t") for line in lines}
    return ".csv" if len(tabs) == 1 and tabs.pop() > 0 and len(lines) > 1 else ".txt"
