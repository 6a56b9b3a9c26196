"""Encodings: the right text or a refusal that names the candidates, never a wrong text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError
from tasks.data.files import open_rows, read_file
from tasks.data.reading.mojibake import mojibake
from tests.tasks.data.reading.languages import ENCODINGS, LANGUAGES, UNICODE

LEGACY = [(language, encoding) for language, names in ENCODINGS.items() for encoding in names]
ENGLISH = [
    {"prompt": f"Say number {n} in one word, please.", "completion": f"It's {n}."}
    for n in range(400)
]


def encoded(text: str, encoding: str) -> bytes:
    """Bytes of an encoding, with a plain apostrophe or "oe" where it lacks the better one."""
    if encoding in ("iso8859_15", "latin_1"):
        text = text.replace("’", "'")
    return text.encode(encoding)


def rows_of(language: str, count: int, encoding: str = "utf-8") -> list[dict[str, str]]:
    sentences = LANGUAGES[language][:: 200 // count][:count]
    fitting = [encoded(one, encoding).decode(encoding) for one in sentences]
    return [{"prompt": f"Translate, please: {n}", "completion": s} for n, s in enumerate(fitting)]


def written(tmp_path: Path, rows: list[dict[str, str]], encoding: str) -> Path:
    path = tmp_path / "a.jsonl"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("encoding", UNICODE)
def test_unicode_is_read_in_every_form(tmp_path: Path, language: str, encoding: str) -> None:
    rows = rows_of(language, 200)
    assert read_file(written(tmp_path, rows, encoding)) == rows


@pytest.mark.parametrize(("language", "encoding"), LEGACY)
def test_two_hundred_rows_are_read_in_their_own_encoding(
    tmp_path: Path, language: str, encoding: str
) -> None:
    rows = rows_of(language, 200, encoding)
    read = open_rows(written(tmp_path, rows, encoding))
    assert list(read) == rows
    assert any("decoded as" in note for note in read.notes)


@pytest.mark.parametrize(("language", "encoding"), LEGACY)
@pytest.mark.parametrize("count", [1, 5, 20])
def test_few_rows_among_english_are_right_or_refused(
    tmp_path: Path, language: str, encoding: str, count: int
) -> None:
    rows = ENGLISH + rows_of(language, count, encoding)
    path = written(tmp_path, rows, encoding)
    refusal = ""
    try:
        found = read_file(path)
    except DataError as error:
        refusal = str(error)
        found = read_file(path, encoding=encoding)
    assert found == rows
    for words in ("a.jsonl, line 401", "data.encoding=", "→"):
        assert words in (refusal or "a.jsonl, line 401, data.encoding=, →")


def test_some_rows_are_enough_for_each_language(tmp_path: Path) -> None:
    """Refusing everything would be right too: of 20 rows, none of these is refused."""
    for language, names in ENCODINGS.items():
        rows = ENGLISH + rows_of(language, 20, names[0])
        assert read_file(written(tmp_path, rows, names[0])) == rows


@pytest.mark.parametrize(
    ("first", "second"),
    [("cp1251", "gbk"), ("utf-8", "cp1252"), ("utf-8", "gbk"), ("gbk", "utf-8")],
)  # fmt: skip
def test_two_encodings_in_one_file_are_refused(tmp_path: Path, first: str, second: str) -> None:
    languages = {"cp1251": "Russian", "gbk": "Chinese", "cp1252": "French", "utf-8": "French"}
    path = tmp_path / "a.txt"
    halves = [
        "".join(f"{one}\n" for one in LANGUAGES[languages[name]][:count]).encode(name)
        for name, count in ((first, 150), (second, 30))
    ]
    path.write_bytes(b"".join(halves))
    with pytest.raises(DataError, match=r"a\.txt, line "):
        read_file(path, text="lines")


@pytest.mark.parametrize(
    ("most", "one"),
    [
        (("Russian", "cp1251"), ("Chinese", "gbk")),
        (("Chinese", "gbk"), ("Russian", "koi8_r")),
    ],
)
def test_one_line_in_another_encoding_is_refused(
    tmp_path: Path, most: tuple[str, str], one: tuple[str, str]
) -> None:
    lines = [line.encode(most[1]) for line in LANGUAGES[most[0]] * 30]
    lines[5_000] = LANGUAGES[one[0]][7].encode(one[1])
    (tmp_path / "a.txt").write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match=r"a\.txt, line "):
        read_file(tmp_path / "a.txt", text="lines")


def test_one_utf8_word_in_another_encoding_is_refused(tmp_path: Path) -> None:
    lines = [one.encode("cp1252") for one in LANGUAGES["French"]] + ["un café".encode()]
    (tmp_path / "a.txt").write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match="1 other lines are UTF-8"):
        read_file(tmp_path / "a.txt")


def test_first_foreign_byte_may_come_late(tmp_path: Path) -> None:
    rows = [*ENGLISH * 200, {"prompt": "A café, déjà vu, à la carte?", "completion": "Très bien"}]
    read = open_rows(written(tmp_path, rows, "cp1252"))
    assert list(read)[-1] == rows[-1]


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("ascii", ("line 2", "bytes c3", "which is not ascii", "leave data.encoding empty")),
        ("klingon", ("data.encoding=klingon names no encoding", "gb18030")),
        ("base64", ("names no encoding",)),
    ],
)
def test_named_encoding_is_taken_at_its_word(
    tmp_path: Path, encoding: str, words: tuple[str, ...]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("plain.\ncafé.\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_file(path, encoding=encoding)
    for word in words:
        assert word in str(caught.value)


def test_a_named_encoding_that_the_bytes_do_not_look_like_is_noted(
    read: Callable[..., tuple[list[dict[str, Any]], str]],
) -> None:
    text = "".join(f'{{"text": "第{at}题：怎样修理自行车？先擦干净。"}}\n' for at in range(60))
    for encoding, named in (("gb18030", "big5"), ("utf-8", "latin-1")):
        _, notes = read("a.jsonl", text.encode(encoding), encoding=named)
        assert f"its bytes look like {encoding}" in notes
    for encoding, named in (("gb18030", "gbk"), ("utf-8", "utf-8")):  # the same characters
        _, notes = read("a.jsonl", text.encode(encoding), encoding=named)
        assert "look like" not in notes


def test_a_mark_that_the_bytes_do_not_keep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one.\ntwo.\n".encode("utf-16")[:-1])
    with pytest.raises(DataError, match="begins with its mark"):
        read_file(path)


@pytest.mark.parametrize(
    "text",
    [
        "cafÃ© noir",
        "itâ€™s",
        "ÐŸÑ€Ð¸Ð²ÐµÑ‚",
        "ä½\xa0å¥½",
        "ï»¿start",
        "Â£5",
        "РџСЂРёРІРµС‚",
        "a \ufffd",
    ],
)
def test_mojibake_is_shown_with_what_stands_around(text: str) -> None:
    found = mojibake(f"before {text} behind")
    assert found
    assert found in f"before {text} behind"


def test_mojibake_is_not_seen_in_sound_text() -> None:
    texts = [sentence for sentences in LANGUAGES.values() for sentence in sentences]
    texts += [
        "plain",
        "São Paulo, Ângela e Ãndrea",
        "À l'âge d'or, “ça”!",
        "РОССИЯ",
        "Señor — ¿qué?",
    ]
    assert [text for text in texts if mojibake(text)] == []
