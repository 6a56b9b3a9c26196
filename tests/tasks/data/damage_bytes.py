"""Damaged bytes: encodings, control characters, packing, parquet and what is no data at all."""

import bz2
import gzip
import json
import lzma
from typing import Any

import pyarrow
import zstandard

from tests.tasks.data.damage_kinds import (
    PAIRS,
    SFT,
    TEXTS,
    THINGS,
    Kind,
    annex,
    csv_of,
    dialogue,
    jsonl,
    page,
    parquet,
    pointer,
    tarred,
    zipped,
)

ACCENTS = [
    row | {"completion": f"Pliez-le à côté, près d'{n} élève, ça va."} for n, row in enumerate(SFT)
]
FAMILY = {"prompt": "Who came?", "completion": "\U0001f468\u200d\U0001f469\u200d\U0001f467 came."}
PERSIAN = {"prompt": "Say: I want", "completion": "می\u200cخواهم"}


def many(count: int = 10_000) -> list[dict[str, str]]:
    return [
        {"prompt": f"Häufigkeit von {n}?", "completion": f"Über {n} Mal."} for n in range(count)
    ]


def broken_once() -> bytes:
    return jsonl(many()).replace("Häufigkeit von 7000?".encode(), b"H\xe4ufigkeit von 7000?")


def garbled(text: str, times: int = 1) -> str:
    for _ in range(times):
        text = text.encode().decode("latin-1")
    return text


def text_row(completion: str, says: str, cleaned: str = "") -> Kind:
    """A text that must be reported among whole ones: kept as it is or cleaned, or dropped."""
    row = {"prompt": "Is seven odd?", "completion": completion}
    right = [*SFT, row | {"completion": cleaned or completion}]
    return Kind("a.jsonl", lambda: (json.dumps(row) + "\n").encode() + jsonl(SFT), right, 6, says)


ENCODING_KINDS = {
    "UTF-16 without a mark": Kind(
        "a.jsonl", lambda: jsonl(SFT, "utf-16-le"), SFT, unless_kept="UTF-16|encoding"
    ),
    "UTF-16 without a mark, csv": Kind(
        "a.csv", lambda: csv_of(SFT).encode("utf-16-be"), SFT, unless_kept="UTF-16|encoding"
    ),
    "UTF-16 without a mark, txt": Kind(
        "a.txt",
        lambda: "\n".join(row["text"] for row in TEXTS).encode("utf-16-le"),
        TEXTS,
        unless_kept="UTF-16|encoding",
        collection="corpus",
        options={"text": "lines"},
    ),
    "UTF-32 with a mark": Kind(
        "a.txt",
        lambda: "\n".join(row["text"] for row in TEXTS).encode("utf-32"),
        TEXTS,
        unless_kept="UTF-32|encoding",
        collection="corpus",
        options={"text": "lines"},
    ),
    "UTF-16 cut within a character": Kind(
        "a.csv",
        lambda: csv_of(SFT).encode("utf-16")[:-3],
        SFT,
        says="UTF-16|encoding|line|byte|cut",
    ),
    "a mark at the start": Kind("a.jsonl", lambda: jsonl(SFT, "utf-8-sig"), SFT, 6),
    "two marks at the start": Kind(
        "a.csv", lambda: b"\xef\xbb\xbf" * 2 + csv_of(SFT).encode(), SFT, unless_kept="mark|column"
    ),
    "a mark in the middle": Kind(
        "a.jsonl", lambda: jsonl(SFT[:3]) + jsonl(SFT[3:], "utf-8-sig"), SFT, unless_kept="line 4"
    ),
    "a mark in the middle of texts": Kind(
        "a.txt",
        lambda: "\n".join(
            [*(row["text"] for row in TEXTS[:3]), "\ufeff" + TEXTS[3]["text"]]
        ).encode(),
        TEXTS[:4],
        3,
        collection="corpus",
        options={"text": "lines"},
    ),
    "one broken byte in 10,000 rows": Kind(
        "a.jsonl",
        broken_once,
        many()[:7000] + many()[7001:],
        says="line 7001|row 7001|byte|replaced|broken",
    ),
    "two encodings in one file": Kind(
        "a.jsonl",
        lambda: jsonl(ACCENTS[:3]) + jsonl(ACCENTS[3:], "cp1252"),
        ACCENTS,
        says="line|encoding|byte",
    ),
    "cut within a character": Kind(
        "a.txt",
        lambda: ("\n".join(row["text"] for row in TEXTS) + "\né").encode()[:-1],
        TEXTS,
        says="line|byte|encoding",
        collection="corpus",
        options={"text": "lines"},
    ),
    "letters encoded twice": text_row(
        garbled("Fünf Äpfel für Zoë, naïve façade."), "mojibake|garbl|twice|encod"
    ),
    "letters encoded thrice": text_row(
        garbled("Fünf Äpfel, déjà vu.", 2), "mojibake|garbl|twice|encod"
    ),
    "Windows letters encoded twice": text_row(
        "It\u2019s".encode().decode("cp1252") + " odd, isn" + "\u2019t".encode().decode("cp1252"),
        "mojibake|garbl|twice|encod",
    ),
    "replacement characters": text_row(
        "F\ufffdnf \ufffdpfel.", "replacement|ufffd|�|mojibake|garbl"
    ),
    "NUL in texts": text_row("Ye\0s, it is.", "control|NUL|u0000"),
    "other control characters": text_row("Yes\x01, it\x08 is\x7f.", "control"),
    "references of HTML": text_row(
        "&lt;p&gt;It&amp;#39;s odd&lt;/p&gt;&nbsp;&quot;yes&quot;", "html|entit"
    ),
    "a lone surrogate": text_row("Odd \ud83d.", 'surrogate|cleaned": 1', "Odd \ufffd."),
    "a terminal's colours": text_row(
        "\x1b[31mYes\x1b[0m, it is.", 'cleaned": 1|ansi|escape|control', "Yes, it is."
    ),
    "letters that run backwards": text_row(
        "Yes \u202etpircs\u202c.", "bidi|direction|control|invisible"
    ),
    "a family and Persian": Kind(
        "a.jsonl", lambda: jsonl([*SFT, FAMILY, PERSIAN]), [*SFT, FAMILY, PERSIAN], 8
    ),
    "separators of lines within texts": Kind(
        "a.jsonl",
        lambda: jsonl([SFT[0] | {"completion": "Lay it flat.\u2028Fold.\x0cDone."}, *SFT[1:]]),
        [SFT[0] | {"completion": "Lay it flat.\u2028Fold.\x0cDone."}, *SFT[1:]],
        5,
    ),
    "escape sequences of Japan": Kind(
        "a.txt",
        lambda: ("\n".join(f"{n} おはようございます、皆さん" for n in range(9))).encode(
            "iso2022_jp"
        ),
        [{"text": f"{n} おはようございます、皆さん"} for n in range(9)],
        unless_kept="encoding|ISO-2022",
        collection="corpus",
        options={"text": "lines"},
    ),
    "EBCDIC": Kind(
        "a.txt",
        lambda: "\n".join(row["text"] for row in TEXTS).encode("cp500"),
        TEXTS,
        says="encoding|byte|control|cp500|037",
        collection="corpus",
        options={"text": "lines"},
    ),
    "an encoding that is not the file's": Kind(
        "a.jsonl",
        lambda: jsonl(ACCENTS, "latin-1"),
        ACCENTS,
        says="shift|sjis|decode|byte",
        options={"encoding": "shift_jis"},
    ),
    "an encoding that nobody knows": Kind(
        "a.jsonl",
        lambda: jsonl(SFT),
        says="encoding.*utf-9|utf-9.*encoding",
        options={"encoding": "utf-9"},
    ),
    "an encoding that is none of texts": Kind(
        "a.jsonl", lambda: jsonl(SFT), SFT, says="base64", options={"encoding": "base64"}
    ),
}

GZIPPED = gzip.compress(jsonl(SFT))
PACKED_KINDS = {
    "gzip named jsonl": Kind("a.jsonl", lambda: GZIPPED, SFT, unless_kept="gzip|gz"),
    "plain named gz": Kind("a.jsonl.gz", lambda: jsonl(SFT), SFT, unless_kept="gzip"),
    "gzip in gzip": Kind("a.jsonl.gz", lambda: gzip.compress(GZIPPED), SFT, unless_kept="gzip"),
    "gzip cut": Kind(
        "a.jsonl.gz", lambda: gzip.compress(jsonl(many(3000)))[:-100], many(3000), says="gzip|gz"
    ),
    "gzip of nothing": Kind("a.jsonl.gz", lambda: gzip.compress(b""), says="empty|no rows"),
    "gzip without an inner ending": Kind(
        "a.gz", lambda: GZIPPED, SFT, unless_kept="ending|name|gz"
    ),
    "zst": Kind("a.jsonl.zst", lambda: zstandard.compress(jsonl(SFT)), SFT, 6),
    "zst cut": Kind(
        "a.jsonl.zst", lambda: zstandard.compress(jsonl(many(3000)))[:-100], many(3000), says="zst"
    ),
    "zst frames one after the other": Kind(
        "a.jsonl.zst",
        lambda: zstandard.compress(jsonl(SFT[:3])) + zstandard.compress(jsonl(SFT[3:])),
        SFT,
        6,
    ),
    "bz2": Kind("a.jsonl.bz2", lambda: bz2.compress(jsonl(SFT)), SFT, unless_kept="bz2"),
    "xz": Kind("a.jsonl.xz", lambda: lzma.compress(jsonl(SFT)), SFT, unless_kept="xz"),
    "zip of two": Kind(
        "a.zip",
        lambda: zipped({"x.jsonl": jsonl(SFT[:2]), "y.jsonl": jsonl(SFT[2:])}),
        SFT,
        unless_kept="x.jsonl",
    ),
    "zip with a folder": Kind(
        "a.zip",
        lambda: zipped({"data/": b"", "data/x.csv": csv_of(SFT).encode()}),
        SFT,
        unless_kept="csv",
    ),
    "zip from a Mac": Kind(
        "a.zip",
        lambda: zipped(
            {
                "x.jsonl": jsonl(SFT),
                "__MACOSX/._x.jsonl": b"\0\5\26\7\0\2\0\0Mac OS X",
                ".DS_Store": b"\0\0\0\1Bud1",
            }
        ),
        SFT,
        unless_kept="MACOSX|DS_Store",
    ),
    "zip with a picture and a licence": Kind(
        "a.zip",
        lambda: zipped({"x.jsonl": jsonl(SFT), "LICENSE": b"Free.", "plot.png": b"\x89PNG\r\n"}),
        SFT,
        says="LICENSE|plot.png",
    ),
    "zip of columns that differ": Kind(
        "a.zip",
        lambda: zipped({"x.jsonl": jsonl(SFT), "y.csv": b"id,score\n1,2\n"}),
        SFT,
        says="column|y.csv|score",
    ),
    "zip without data": Kind(
        "a.zip", lambda: zipped({"plot.png": b"\x89PNG\r\n"}), says="plot.png|member|no file"
    ),
    "zip of nothing": Kind("a.zip", lambda: zipped({}), says="empty|no "),
    "zip cut": Kind("a.zip", lambda: zipped({"x.jsonl": jsonl(many(3000))})[:-200], says="zip"),
    "zip named jsonl": Kind(
        "a.jsonl", lambda: zipped({"x.jsonl": jsonl(SFT)}), SFT, unless_kept="zip"
    ),
    "zip in zip": Kind(
        "a.zip",
        lambda: zipped({"b.zip": zipped({"x.jsonl": jsonl(SFT)})}),
        SFT,
        unless_kept="b.zip",
    ),
    "tar with a link": Kind(
        "a.tar",
        lambda: tarred({"x.jsonl": jsonl(SFT)}, {"y.jsonl": "/etc/passwd"}),
        SFT,
        says="y.jsonl|link",
    ),
    "tar that climbs": Kind(
        "a.tar.gz",
        lambda: tarred({"../../x.jsonl": jsonl(SFT)}, mode="w:gz"),
        SFT,
        unless_kept=r"x.jsonl",
    ),
    "tar cut": Kind(
        "a.tar.gz",
        lambda: tarred({"x.jsonl": jsonl(many(3000))}, mode="w:gz")[:-200],
        many(3000),
        says="tar|gz",
    ),
    "tgz": Kind(
        "a.tgz", lambda: tarred({"x.jsonl": jsonl(SFT)}, mode="w:gz"), SFT, unless_kept="tgz|ending"
    ),
}

NO_DATA_KINDS = {
    "a pointer of LFS": Kind("a.jsonl", pointer, says="LFS"),
    "a pointer of LFS, parquet": Kind("a.parquet", pointer, says="LFS"),
    "a pointer of LFS, txt": Kind("a.txt", pointer, says="LFS", collection="corpus"),
    "a pointer of LFS, csv": Kind("a.csv", pointer, says="LFS"),
    "a pointer of LFS, gz": Kind("a.jsonl.gz", pointer, says="LFS"),
    "a pointer of LFS in a zip": Kind("a.zip", lambda: zipped({"x.jsonl": pointer()}), says="LFS"),
    "a pointer of git-annex": Kind("a.jsonl", annex, says="annex"),
    "a pointer of git-annex, txt": Kind("a.txt", annex, says="annex", collection="corpus"),
    "a page of HTML": Kind("a.jsonl", page, says="HTML|web page"),
    "a page of HTML, csv": Kind("a.csv", page, says="HTML|web page"),
    "a page of HTML, txt": Kind("a.txt", page, says="HTML|web page", collection="corpus"),
    "a page of HTML, parquet": Kind("a.parquet", page, says="HTML|web page|parquet"),
    "a page of HTML, gz": Kind("a.jsonl.gz", page, says="HTML|web page|gzip"),
    "XML": Kind(
        "a.json",
        lambda: b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>',
        says="XML|Error|<",
    ),
    "a workbook": Kind(
        "a.xlsx",
        lambda: zipped({"[Content_Types].xml": b"<x/>", "xl/workbook.xml": b"<x/>"}),
        says="xlsx|Excel|workbook|spreadsheet",
    ),
    "a workbook named csv": Kind(
        "a.csv",
        lambda: zipped({"[Content_Types].xml": b"<x/>", "xl/workbook.xml": b"<x/>"}),
        says="xlsx|Excel|workbook|spreadsheet|zip",
    ),
    "a PDF named txt": Kind(
        "a.txt",
        lambda: b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n" * 3,
        says="PDF",
        collection="corpus",
        options={"text": "lines"},
    ),
    "a picture named txt": Kind(
        "a.txt",
        lambda: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 4,
        says="PNG|picture|image|binary|byte|text|encoding",
        collection="corpus",
    ),
    "a database": Kind(
        "a.jsonl", lambda: b"SQLite format 3\0" + b"\0" * 100, says="SQLite|NUL|line 1|control"
    ),
    "a pickle": Kind(
        "a.pkl", lambda: b"\x80\x04\x95\n\0\0\0\0\0\0\0]\x94.", says="pickle|pkl|ending"
    ),
    "random bytes named txt": Kind(
        "a.txt",
        lambda: bytes(range(256)) * 8,
        says="byte|encoding|text|binary",
        collection="corpus",
        options={"text": "lines"},
    ),
    "nothing": Kind("a.jsonl", lambda: b"", says="empty"),
    "white space": Kind(
        "a.txt", lambda: b" \n\t\n\r\n", says="empty|no rows|no row", collection="corpus"
    ),
    "an ending that nobody reads": Kind(
        "a.docx", lambda: zipped({"word/document.xml": b"<x/>"}), says="docx|ending|Word"
    ),
}


def table(**columns: Any) -> bytes:
    return parquet(pyarrow.table(columns))


PARQUET_KINDS = {
    "parquet named json": Kind("a.json", lambda: parquet(SFT), SFT, unless_kept="parquet"),
    "JSON named parquet": Kind("a.parquet", lambda: jsonl(SFT), SFT, unless_kept="parquet"),
    "parquet cut": Kind("a.parquet", lambda: parquet(SFT)[:-20], says="parquet"),
    "parquet without its head": Kind("a.parquet", lambda: parquet(SFT)[50:], SFT, says="parquet"),
    "parquet of no rows": Kind(
        "a.parquet",
        lambda: table(prompt=pyarrow.array([], "string"), completion=pyarrow.array([], "string")),
        says="empty|no rows",
    ),
    "numbers as completions": Kind(
        "a.parquet",
        lambda: table(prompt=list(THINGS), completion=list(range(6))),
        says="type|number",
    ),
    "bytes as completions": Kind(
        "a.parquet",
        lambda: table(prompt=list(THINGS), completion=[b"\xff\xfe"] * 6),
        says="type|bytes",
    ),
    "a column of nulls": Kind(
        "a.parquet",
        lambda: table(prompt=list(THINGS), completion=pyarrow.nulls(6)),
        says="empty|null|type|completion",
    ),
    "messages as structs": Kind(
        "a.parquet", lambda: parquet([{"messages": dialogue(*row.values())} for row in SFT]), SFT, 6
    ),
    "a null in messages": Kind(
        "a.parquet",
        lambda: parquet(
            [
                {"messages": [*dialogue(*row.values()), None][: 2 + (n == 0)]}
                for n, row in enumerate(SFT)
            ]
        ),
        SFT,
        5,
        "message|type|null|content",
    ),
    "words in a dictionary": Kind(
        "a.parquet",
        lambda: table(
            prompt=pyarrow.array([row["prompt"] for row in SFT]).dictionary_encode(),
            completion=pyarrow.array([row["completion"] for row in SFT]).dictionary_encode(),
        ),
        SFT,
        6,
    ),
    "large strings and views": Kind(
        "a.parquet",
        lambda: table(
            prompt=pyarrow.array([row["prompt"] for row in SFT], pyarrow.large_string()),
            completion=pyarrow.array([row["completion"] for row in SFT], pyarrow.string_view()),
        ),
        SFT,
        6,
    ),
    "a column twice, parquet": Kind(
        "a.parquet",
        lambda: parquet(
            pyarrow.table(
                [list(THINGS), ["Fold it."] * 6, ["Do not."] * 6],
                names=["prompt", "completion", "completion"],
            )
        ),
        says="twice|duplicate|several|same|completion",
    ),
    "an index of pandas": Kind(
        "a.parquet",
        lambda: parquet([row | {"__index_level_0__": n} for n, row in enumerate(SFT)]),
        SFT,
        6,
    ),
    "pairs of structs": Kind(
        "a.parquet",
        lambda: parquet(
            [
                {
                    "prompt": row["prompt"],
                    "chosen": dialogue(row["prompt"], row["chosen"]),
                    "rejected": dialogue(row["prompt"], row["rejected"]),
                    "score_chosen": float(n),
                    "score_rejected": 2.0,
                }
                for n, row in enumerate(PAIRS)
            ]
        ),
        PAIRS[3:],
        3,
        "tie|equal",
        collection="preferences",
    ),
}
