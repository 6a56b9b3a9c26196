"""Damaged files, and what a person who brings one of them would call right.

Each kind names the rows that may be kept at all, how many of them must be, and what must be said.
The files hold the same six demonstrations or pairs wherever the damage leaves them whole.
"""

import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from tasks.data.formats import Collection
from tests.tasks.data.witness import Row, jsonl

THINGS = ("a napkin", "a map", "a shirt", "a tent", "a letter", "a paper crane")
SFT: list[Row] = [
    {"prompt": f"How do I fold {it}?", "completion": f"Lay {it} flat, then fold twice."}
    for it in THINGS
]
PAIRS: list[Row] = [
    {"prompt": row["prompt"], "chosen": row["completion"], "rejected": "No idea."} for row in SFT
]
TEXTS: list[Row] = [{"text": row["completion"]} for row in SFT]


class Kind(NamedTuple):
    """One kind of damage.

    Attributes:
        file: The file's name.
        content: Its bytes.
        right: The rows that may be kept; plain texts where one message stands alone.
        least: How many rows must be kept.
        says: A pattern that what is said must have; compared without letter case.
        unless_kept: The same, needed only if not all right rows are kept.
        collection: What the file is brought as.
        options: Fields of the config.
    """

    file: str
    content: Callable[[], bytes]
    right: Sequence[Row] = ()
    least: int = 0
    says: str = ""
    unless_kept: str = ""
    collection: Collection = "demonstrations"
    options: Mapping[str, Any] = MappingProxyType({})


def lines(rows: Sequence[Row]) -> list[str]:
    return jsonl(rows).decode().splitlines()


def csv_of(rows: Sequence[Row], delimiter: str = ",", end: str = "\n") -> str:
    def cell(value: str) -> str:
        return '"' + value.replace('"', '""') + '"'

    table = [list(rows[0]), *[list(row.values()) for row in rows]]
    return "".join(delimiter.join(map(cell, cells)) + end for cells in table)


def parquet(rows: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    table = rows if isinstance(rows, pyarrow.Table) else pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, sink, **options)
    return sink.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return sink.getvalue()


def tarred(
    members: dict[str, bytes], links: dict[str, str] | None = None, mode: str = "w"
) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as file:  # type: ignore[call-overload]
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            file.addfile(about, io.BytesIO(content))
        for name, target in (links or {}).items():
            about = tarfile.TarInfo(name)
            about.type, about.linkname = tarfile.SYMTYPE, target
            file.addfile(about)
    return sink.getvalue()


def damaged(data: bytes, seed: int, count: int) -> bytes:
    """The data with some bytes changed."""
    draw = random.Random(seed)
    changed = bytearray(data)
    for _ in range(count):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def pointer() -> bytes:
    return (
        b"version https://git-lfs.github.com/spec/v1\n"
        b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
        b"size 73441\n"
    )


def annex() -> bytes:
    return b"/annex/objects/SHA256E-s73441--4d7a214614ab2935c943f9e0ff69d22eadbb8f32b12.jsonl\n"


def page() -> bytes:
    return (
        b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>\n<body>\n"
        b"<h1>Not Found</h1>\n<p>The file was moved.</p>\n</body></html>\n"
    )


def with_row(row: Any, rows: Sequence[Row] = SFT) -> bytes:
    """Whole rows around one that is not."""
    return jsonl([*rows[:3], row, *rows[3:]])


def dialogue(*contents: str, roles: Sequence[str] = ("user", "assistant")) -> list[Row]:
    return [
        {"role": roles[turn % len(roles)], "content": content}
        for turn, content in enumerate(contents)
    ]


def cell(row: Row) -> str:
    """Messages as a text, as data frames write lists into cells."""
    return json.dumps(dialogue(row["prompt"], row["completion"]))


JSON_KINDS = {
    "line cut at the end": Kind("a.jsonl", lambda: jsonl(SFT)[:-25], SFT[:5], unless_kept="line 6"),
    "two objects on one line": Kind(
        "a.jsonl",
        lambda: "\n".join([lines(SFT)[0] + lines(SFT)[1], *lines(SFT)[2:]]).encode(),
        SFT,
        unless_kept="line 1",
    ),
    "comma behind the last key": Kind(
        "a.jsonl",
        lambda: jsonl(SFT).replace(b'twice."}\n', b'twice.",}\n', 1),
        SFT,
        unless_kept="line 1",
    ),
    "comma behind the last item": Kind(
        "a.json",
        lambda: b"[" + b",\n".join(map(str.encode, lines(SFT))) + b",\n]",
        SFT,
        unless_kept="line 7",
    ),
    "lines that end with commas": Kind(
        "a.jsonl", lambda: b",\n".join(map(str.encode, lines(SFT))), SFT, unless_kept="line 1"
    ),
    "array cut in the middle": Kind(
        "a.json", lambda: json.dumps(SFT, indent=1).encode()[:-80], SFT[:5], unless_kept="line"
    ),
    "a dictionary as Python shows it": Kind(
        "a.jsonl", lambda: "\n".join(map(repr, SFT)).encode(), SFT, unless_kept="line 1"
    ),
    "a comment line": Kind(
        "a.jsonl", lambda: b"// exported in May\n" + jsonl(SFT), SFT, unless_kept="line 1"
    ),
    "objects in texts": Kind("a.jsonl", lambda: jsonl(lines(SFT)), SFT, unless_kept="line 1"),
    "record separators": Kind(
        "a.jsonl",
        lambda: ("\x1e" + "\x1e".join(f"{line}\n" for line in lines(SFT))).encode(),
        SFT,
        unless_kept="line 1",
    ),
    "carriage returns only": Kind(
        "a.jsonl", lambda: jsonl(SFT).replace(b"\n", b"\r"), SFT, unless_kept="line 1"
    ),
    "NaN as a completion": Kind(
        "a.jsonl",
        lambda: with_row({"prompt": "x", "completion": "y"}).replace(b'"y"', b"NaN"),
        SFT,
        6,
        "type|NaN|missing|empty|null",
    ),
    "NaN as a score": Kind(
        "a.jsonl",
        lambda: with_row(PAIRS[0] | {"score_chosen": 0.5, "score_rejected": 7}, PAIRS[1:]).replace(
            b"0.5", b"NaN"
        ),
        PAIRS,
        5,
        collection="preferences",
    ),
    "Infinity as a margin": Kind(
        "a.jsonl",
        lambda: with_row(PAIRS[0] | {"margin": 0.5}, PAIRS[1:]).replace(b"0.5", b"Infinity"),
        PAIRS[1:],
        5,
        "margin",
        collection="preferences",
    ),
    "a key twice": Kind(
        "a.jsonl",
        lambda: jsonl(SFT).replace(b'{"prompt"', b'{"completion": "Ask the tailor.", "prompt"', 1),
        SFT[1:],
        says="twice|duplicate|repeat|several|more than once",
    ),
    "messages as JSON in a text": Kind(
        "a.jsonl",
        lambda: jsonl([{"messages": cell(row)} for row in SFT]),
        SFT,
        unless_kept="messages",
    ),
    "prompt messages as JSON in a cell": Kind(
        "a.csv",
        lambda: csv_of(
            [row | {"prompt": json.dumps(dialogue(row["prompt"]))} for row in SFT]
        ).encode(),
        SFT,
        says="json|messages|lists",
    ),
    "messages as Python shows them in a cell": Kind(
        "a.csv",
        lambda: csv_of([row | {"prompt": repr(dialogue(row["prompt"]))} for row in SFT]).encode(),
        SFT,
        says="python|messages|json|lists",
    ),
    "a row that is a list": Kind(
        "a.jsonl", lambda: jsonl([list(row.values()) for row in SFT]), says="list|array"
    ),
    "an array of arrays": Kind(
        "a.json",
        lambda: json.dumps([list(row.values()) for row in SFT]).encode(),
        says="list|array",
    ),
    "texts among objects": Kind(
        "a.json",
        lambda: json.dumps([*SFT, "the end"]).encode(),
        SFT,
        says="item 7|line 7|row 7|'the end'|str|a text",
    ),
    "null in place of a file": Kind("a.json", lambda: b"null\n", says="null|None"),
    "an empty array": Kind("a.json", lambda: b"[]", says="empty|no rows"),
    "an empty object": Kind("a.json", lambda: b"{}", says="empty|no rows|columns|none"),
    "an error of a service": Kind(
        "a.json", lambda: b'{"error": "The dataset is gated.", "status": 401}', says="error"
    ),
    "a configuration": Kind(
        "a.json",
        lambda: b'{"features": {"prompt": {"dtype": "string"}}, "splits": []}',
        says="features",
    ),
    "nested too deeply": Kind(
        "a.jsonl",
        lambda: with_row(None).replace(
            b"null", b'{"messages": ' + b'[{"content":' * 3000 + b"1" + b"}]" * 3000 + b"}"
        ),
        SFT,
        says="line 4|deep|type|content",
    ),
}

EMPTY = ("nan", "NULL", "NaN", "<NA>")
CSV_KINDS = {
    "no header": Kind(
        "a.csv", lambda: csv_of(SFT).split("\n", 1)[1].encode(), says="header|first line|How do I"
    ),
    "only a header": Kind("a.csv", lambda: b"prompt,completion\n", says="empty|no rows"),
    "a quote that is never closed": Kind(
        "a.csv",
        lambda: csv_of(SFT).encode().replace(b'twice."\n', b"twice.\n", 1),
        SFT[1:],
        says="line|quot",
    ),
    "quotes in a bare cell": Kind(
        "a.csv",
        lambda: b'prompt,completion\nWhat is a "fold"?,A bend.\nAnd a "crease"?,"A sharp one."\n',
        [
            {"prompt": 'What is a "fold"?', "completion": "A bend."},
            {"prompt": 'And a "crease"?', "completion": "A sharp one."},
        ],
        unless_kept="line [23]|quot",
    ),
    "quotes behind backslashes": Kind(
        "a.csv",
        lambda: b'prompt,completion\n"Say \\"hi\\", please","hi, you"\n"Say \\"bye\\"","bye"\n',
        [
            {"prompt": 'Say "hi", please', "completion": "hi, you"},
            {"prompt": 'Say "bye"', "completion": "bye"},
        ],
        unless_kept="line 2|quot|backslash",
    ),
    "two delimiters": Kind(
        "a.csv",
        lambda: (csv_of(SFT[:3]) + csv_of(SFT[3:], ";").split("\n", 1)[1]).encode(),
        SFT,
        unless_kept="line 5|cell",
    ),
    "a cell too many": Kind(
        "a.csv",
        lambda: (
            csv_of(SFT)
            .encode()
            .replace(b'.",', b'.","x",')
            .replace(b'fold a map?",', b'fold a map?","of Rome",')
        ),
        [SFT[0], *SFT[2:]],
        says="line 3|cell",
    ),
    "a cell too few": Kind(
        "a.csv",
        lambda: csv_of(SFT).encode() + b'"How do I fold a chair?"\n',
        SFT,
        says="line 8|cell",
    ),
    "a line break in a cell": Kind(
        "a.csv",
        lambda: csv_of([SFT[0] | {"completion": "Lay it flat.\n\nFold."}, *SFT[1:]]).encode(),
        [SFT[0] | {"completion": "Lay it flat.\n\nFold."}, *SFT[1:]],
        6,
    ),
    "cells that say nothing is there": Kind(
        "a.csv",
        lambda: csv_of(
            [*SFT, *({"prompt": f"{word}?", "completion": word} for word in EMPTY)]
        ).encode(),
        SFT,
        6,
        "nan|null|empty",
    ),
    "a prompt that says None": Kind(
        "a.csv",
        lambda: csv_of([{"prompt": "None", "completion": "Hi."}, *SFT]).encode(),
        SFT,
        6,
        "None|empty",
    ),
    "tabs in a file named csv": Kind(
        "a.csv", lambda: csv_of(SFT, "\t").encode(), SFT, unless_kept="tab|delimiter"
    ),
    "bare tabs and commas in texts": Kind(
        "a.csv",
        lambda: (
            "prompt\tcompletion\n"
            + "".join(f"{row['prompt']}\t{row['completion']}\n" for row in SFT)
        ).encode(),
        SFT,
        unless_kept="tab|delimiter",
    ),
    "bars": Kind("a.csv", lambda: csv_of(SFT, "|").encode(), SFT, unless_kept="delimiter"),
    "a column twice": Kind(
        "a.csv",
        lambda: (
            csv_of(SFT)
            .encode()
            .replace(b"\n", b",completion\n", 1)
            .replace(b'twice."\n', b'twice.","Guess."\n')
        ),
        SFT,
        says="twice|duplicate|repeat|same|several",
    ),
    "a column without a name": Kind(
        "a.csv",
        lambda: "".join(
            f"{'' if n == 0 else n - 1},{line}\n" for n, line in enumerate(csv_of(SFT).splitlines())
        ).encode(),
        SFT,
        6,
    ),
    "a comma behind every line": Kind(
        "a.csv", lambda: csv_of(SFT).replace("\n", ",\n").encode(), SFT, unless_kept="cell|column"
    ),
    "notes above the header": Kind(
        "a.csv",
        lambda: b"# exported 2024-05-01\n# by hand\n" + csv_of(SFT).encode(),
        SFT,
        unless_kept="line|header|exported",
    ),
    "a header in the middle": Kind(
        "a.csv",
        lambda: csv_of(SFT[:3]).encode() + b"\xef\xbb\xbf" + csv_of(SFT[3:]).encode(),
        SFT,
        says="header|line 5|byte",
    ),
    "a header in the middle without a mark": Kind(
        "a.csv",
        lambda: csv_of(SFT[:3]).encode() + csv_of(SFT[3:]).encode(),
        SFT,
        says="header|line 5",
    ),
    "carriage returns only, csv": Kind(
        "a.csv", lambda: csv_of(SFT, end="\r").encode(), SFT, unless_kept="line"
    ),
    "Windows line ends": Kind("a.csv", lambda: csv_of(SFT, end="\r\n").encode(), SFT, 6),
    "a thousand columns": Kind(
        "a.csv",
        lambda: csv_of([row | {f"feature_{n}": "0" for n in range(998)} for row in SFT]).encode(),
        SFT,
        6,
        "feature_",
    ),
    "a thousand columns of features": Kind(
        "a.csv",
        lambda: csv_of([{f"feature_{n}": "0" for n in range(1000)}] * 3).encode(),
        says="feature_",
    ),
    "an index and no text": Kind("a.csv", lambda: b"id,score\n1,3\n2,4\n", says="id.*score"),
}
