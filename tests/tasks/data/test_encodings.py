"""The same 200 rows in every encoding that files of their language arrive in.

Rows are read right or the file is refused; wrong text is never kept. With the encoding named, all
are read right.
"""

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.tasks.data.damage_kinds import csv_of
from tests.tasks.data.languages import ENGLISH, LANGUAGES
from tests.tasks.data.witness import Row, bring, plain

ROWS = 200
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
WITH_A_MARK = ("utf-8-sig", "utf-16", "utf-32")
SHARES = (1.0, 0.5, 0.1, 0.01)
"""Of the rows that are not English."""
SHAPES = tuple(itertools.product(("jsonl", "csv", "txt"), (False, True)))


class Case(NamedTuple):
    """One file: a language, its share of the rows, an encoding, an ending and the texts' length."""

    language: str
    encoding: str
    share: float
    ending: str
    long: bool

    def rows(self) -> list[Row]:
        foreign = LANGUAGES[self.language].sentences(ROWS, long=self.long)
        english = ENGLISH.sentences(ROWS, long=self.long)
        every = round(1 / self.share)
        texts = [foreign[n] if n % every == every // 2 else english[n] for n in range(ROWS)]
        return [
            {"prompt": f"{n}: {english[-n]}", "completion": text} for n, text in enumerate(texts)
        ]

    def content(self) -> bytes:
        rows = self.rows()
        if self.ending == "csv":
            text = csv_of(rows)
        elif self.ending == "txt":
            text = "".join(f"{row['completion']}\n" for row in rows)
        else:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return text.encode(self.encoding)


def cases(step: int) -> list[Case]:
    """Every step-th case: a prime step takes all encodings, shares and shapes in turn."""
    every = (
        Case(language, encoding, share, *shape)
        for language, about in LANGUAGES.items()
        for encoding in (*UNICODE, *about.encodings)
        for share in SHARES
        for shape in SHAPES
    )
    return [*itertools.islice(every, 0, None, step)]


def outcome(case: Case, folder: Path, *, named: bool = False) -> str:
    """What became of a file: right, refused or wrong, with what was said."""
    path = folder / f"a.{case.ending}"
    path.write_bytes(case.content())
    collection = "corpus" if case.ending == "txt" else "demonstrations"
    options = {"encoding": case.encoding} if named else {}
    found = bring(path, collection, text="lines", **options)
    rows = case.rows()
    if case.ending == "txt":
        rows = [{"text": row["completion"]} for row in rows]
    if found.refused:
        return "refused"
    return "right" if found.kept == list(map(plain, rows)) else f"wrong: {found.said}"


def table(found: dict[Case, str]) -> str:
    """How many files of each language and encoding were read right and refused, by share."""
    counts = Counter(
        (case.language, case.encoding, case.share, result.partition(":")[0])
        for case, result in found.items()
    )
    lines = [f"{'right/refused/wrong':34}" + "".join(f"{share:>10.0%}" for share in SHARES)]
    for language, encoding in dict.fromkeys((case.language, case.encoding) for case in found):
        cells = (
            "/".join(
                str(counts[language, encoding, share, result])
                for result in ("right", "refused", "wrong")
            )
            for share in SHARES
        )
        lines.append(f"{language + ' ' + encoding:34}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def assert_nothing_is_wrong(some: list[Case], folder: Path) -> None:
    found = {case: outcome(case, folder) for case in some}
    refused = sum(result == "refused" for result in found.values())
    print(f"{len(found)} files, {refused} refused\n{table(found)}")  # shown by -rP, or on failure
    assert not {case: result for case, result in found.items() if result.startswith("wrong")}
    # Unicode is read wherever its mark or its form tells it.
    unicode = [case for case in some if case.encoding in ("utf-8", *WITH_A_MARK)]
    assert all(found[case] == "right" for case in unicode)


def test_rows_are_right_or_refused_in_every_encoding(tmp_path: Path) -> None:
    assert_nothing_is_wrong(cases(43), tmp_path)


@pytest.mark.campaign
def test_rows_are_right_or_refused_in_more_shapes(tmp_path: Path) -> None:
    assert_nothing_is_wrong(cases(11), tmp_path)


def test_rows_are_right_where_the_encoding_is_named(tmp_path: Path) -> None:
    found = {case: outcome(case, tmp_path, named=True) for case in cases(29)}
    assert not {case: result for case, result in found.items() if result != "right"}


@pytest.mark.parametrize("language", [one for one in LANGUAGES if one != "Thai"])
def test_plain_files_of_a_common_encoding_are_read_without_being_asked(
    language: str, tmp_path: Path
) -> None:
    """200 rows of one language are enough to tell its most common encoding."""
    for encoding in LANGUAGES[language].encodings[:1]:
        case = Case(language, encoding, 1.0, "jsonl", True)
        assert outcome(case, tmp_path) == "right"


@pytest.mark.parametrize(
    ("language", "encoding"),
    [("Chinese", "gbk"), ("Japanese", "shift_jis"), ("Russian", "cp1251"), ("Polish", "cp1250")],
)
def test_what_was_assumed_or_could_be_meant_is_said(
    language: str, encoding: str, tmp_path: Path
) -> None:
    for share in SHARES:
        path = tmp_path / "a.jsonl"
        path.write_bytes(Case(language, encoding, share, "jsonl", True).content())
        found = bring(path, "demonstrations")
        assert "encoding" in found.said or "decoded as" in found.said
        assert not found.refused or "data.encoding" in found.refused


LATE = [
    (language, encoding) for language, about in LANGUAGES.items() for encoding in about.encodings
]


@pytest.mark.parametrize(("language", "encoding"), LATE)
def test_foreign_rows_behind_many_english_ones_are_right_or_refused(
    language: str, encoding: str, tmp_path: Path
) -> None:
    texts = [f"{n}: {text}" for n, text in enumerate(ENGLISH.sentences(2_000, long=True))]
    texts += LANGUAGES[language].sentences(3, long=False)
    path = tmp_path / "a.txt"
    path.write_bytes("".join(f"{text}\n" for text in texts).encode(encoding))
    found = bring(path, "corpus", text="lines")
    assert found.refused or [row["text"] for row in found.kept] == texts, found.kept[-3:]
