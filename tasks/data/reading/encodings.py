"""The encoding of a text: Unicode if its bytes are, else what `legacy` is certain of, or nothing.

The whole file is read once before its first row is handed on, so that no row is decoded in a way
that a later one proves wrong.
"""

import codecs
import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from models.errors import DataError
from models.files import shorten, shown
from tasks.data.reading.legacy import Candidate, detect, find_other
from tasks.data.reading.lines import Decoding
from tasks.data.reading.packing import ByteStream, Content
from tasks.data.reading.recognition import HEAD

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes({*range(32)} - {*b"\t\n\v\f\r\x1b\x1c\x1d\x1e\x1f"}) + b"\x7f"
_MOST_CONTROLS = 0.02
_SAMPLE_BYTES = 2**17
_COMPARED_LINES = 100
_SHIFTS = {b"\x1b$B": "iso2022_jp", b"\x1b$@": "iso2022_jp", b"\x1b$)C": "iso2022_kr"}
_CONVERT = "name the encoding in data.encoding=…, or convert the file (iconv -f ENCODING -t UTF-8)"


@dataclass(slots=True)
class _Survey:
    """Lines that are not ASCII, of a file that is not UTF-8."""

    sound: int = 0
    broken: int = 0
    first_sound: tuple[int, bytes] = (0, b"")
    first_broken: tuple[int, bytes] = (0, b"")
    sample: list[bytes] = field(default_factory=list)


def choose_decoding(content: Content, encoding: str, notes: list[str]) -> Decoding:
    """Decide how a text is decoded, and make sure that all of it can be.

    Args:
        encoding: As the user named it; empty = detected.
        notes: Is told what was assumed.

    Raises:
        DataError: It is no text, of no encoding that is certain, or not of the one that is named.
    """
    head = content.head()
    if encoding:
        _require_codec(content, encoding)
        fault = _first_fault(content, encoding)
        if fault:
            line, got = fault
            raise DataError(
                f"{shown(content.name)}, line {line}: got {got}, which is not {shown(encoding)}; "
                "wanted that because of data.encoding; name another, or leave data.encoding empty "
                "to have it detected"
            )
        chosen = encoding
    else:
        chosen = _unicode(content, head) or _legacy(content, notes)
    if chosen not in ("utf-8", "utf-8-sig"):
        notes.append(f"decoded as {chosen}" + (", as named" if encoding else ""))
    if encoding and (other := _other_reading(content, head, encoding)):
        notes.append(f"its bytes look like {other}, which makes other characters of them")
    return Decoding(encoding=chosen, newline=_newline(content, chosen))


def _other_reading(content: Content, head: bytes, named: str) -> str:
    """The encoding that a file would have been read in, where that is certain and not the same."""
    with contextlib.suppress(DataError):
        found = _unicode(content, head) or _legacy(content, [])
        lines = islice(_foreign_lines(content), _COMPARED_LINES)
        if any(one.decode(found, "replace") != one.decode(named, "replace") for _, one in lines):
            return found
    return ""


def _require_codec(content: Content, encoding: str) -> None:
    try:
        "".encode(encoding)
    except (LookupError, ValueError):
        raise DataError(
            f"data.encoding={shown(encoding)} names no encoding; wanted one such as utf-8, "
            "gb18030, big5, shift_jis, euc_kr, windows-1251 or iso-8859-2"
        ) from None


def _first_fault(
    content: Content, encoding: str, shifts: set[str] | None = None
) -> tuple[int, str] | None:
    """The line and the bytes where a file is not of an encoding; None if it is.

    Args:
        shifts: Is told the encodings of seven bits that the file has the marks of.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    last = b""
    try:
        for chunk in content.text_bytes():
            if shifts is not None:
                seen = last + chunk if b"\x1b" in last else chunk
                shifts.update(name for mark, name in _SHIFTS.items() if mark in seen)
                last = chunk[-3:]
            line += decoder.decode(chunk).count("\n")
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        if not isinstance(error, UnicodeDecodeError):
            return line, str(error)
        before = error.object[: error.start].decode(encoding, errors="ignore")
        got = error.object[error.start : max(error.end, error.start + 1)][:4]
        return line + before.count("\n"), f"bytes {got.hex(' ')}" if got else "a cut character"
    return None


def _unicode(content: Content, head: bytes) -> str:
    """The Unicode encoding of a file by its mark, its NUL bytes or its bytes; empty if none.

    Raises:
        DataError: It is binary, or has a mark but not the bytes.
    """
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), "")
    if marked:
        if fault := _first_fault(content, marked):
            raise DataError(
                f"{shown(content.name)}, line {fault[0]}: got {fault[1]}, which is not "
                f"{marked.removesuffix('-sig').upper()} though the file begins with its mark; the "
                "file is damaged, cut, or joined of different encodings; copy it again, or "
                f"{_CONVERT}"
            )
        return marked
    if nuls := head.count(0):
        if wide := _wide(content, head):
            return wide
        if nuls > 0.05 * len(head) or b"\0" * 16 in head:
            raise _binary(content, f"{nuls:,} NUL bytes in its beginning")
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls - nuls > _MOST_CONTROLS * len(head):
        raise _binary(content, "control characters")
    shifts: set[str] = set()
    if _first_fault(content, "utf-8", shifts):
        return ""
    return next((name for name in sorted(shifts) if not _first_fault(content, name)), "utf-8")


def _binary(content: Content, got: str) -> DataError:
    return DataError(
        f"{shown(content.name)} is no text: got {got}; wanted JSON, CSV, parquet or text; give the "
        "rows in one of these, or copy the file again if it is damaged"
    )


def _wide(content: Content, head: bytes) -> str:
    """UTF-16 or UTF-32 without a mark: NUL bytes stand where Latin characters have them."""
    count = len(head) // 4
    zeros = [head[place : 4 * count : 4].count(0) / max(1, count) for place in range(4)]
    order = ""
    if min(zeros[2:]) > 0.95 and zeros[0] < 0.1:
        order = "utf-32-le"
    elif min(zeros[:2]) > 0.95 and zeros[3] < 0.1:
        order = "utf-32-be"
    elif zeros[1] + zeros[3] > 10 * (zeros[0] + zeros[2]):
        order = "utf-16-le"
    elif zeros[0] + zeros[2] > 10 * (zeros[1] + zeros[3]):
        order = "utf-16-be"
    if not order or _first_fault(content, order):
        return ""
    text = head[: 4 * count].decode(order, errors="ignore")
    odd = sum(not (one.isprintable() or one in "\t\r\n\xa0\u3000\u2028") for one in text)
    return order if odd <= 0.01 * len(text) else ""


def _legacy(content: Content, notes: list[str]) -> str:
    """The encoding of a file that is not Unicode.

    Raises:
        DataError: None is certain, or the file is damaged or mixed.
    """
    survey = _survey(content)
    verdict = detect(survey.sample)
    best = verdict.best
    if best is not None:
        mixed = survey.sound and _is_utf8_text(survey.first_sound[1])
        if not mixed and not _first_fault(content, best.encoding):
            if other := find_other(_foreign_lines(content), best):
                raise DataError(
                    f"{shown(content.name)}, line {other[0]}: this line is rather {other[1]}, "
                    f"while the others are {best.encoding}; wanted one encoding throughout; "
                    "convert each part to UTF-8 (iconv -f ENCODING -t UTF-8)"
                )
            notes.append(f"no UTF-8: {verdict.reason} (confidence {verdict.confidence:.2f})")
            return best.encoding
    line, got = survey.first_broken
    if survey.sound:
        raise DataError(
            f"{shown(content.name)}, line {line}: got bytes {_bytes_of(got)}, which are not UTF-8, "
            f"while {survey.sound:,} other lines are UTF-8 beyond ASCII (the first is line "
            f"{survey.first_sound[0]}); wanted UTF-8 or one other encoding throughout; repair the "
            "line or convert each part (iconv -f ENCODING -t UTF-8)"
        )
    raise DataError(
        f"{shown(content.name)}, line {line}: got bytes that are not UTF-8, and no encoding is "
        f"certain ({verdict.reason}); wanted UTF-8. {_offers(verdict.candidates)}{_CONVERT}"
    )


def _offers(candidates: list[Candidate]) -> str:
    """What each possible encoding would make of the file."""
    if not candidates:
        return ""
    made = [f"{one.encoding} → {shown(shorten(one.sample, 30))!r}" for one in candidates[:5]]
    return f"It may be {', '.join(made)}; "


def _bytes_of(line: bytes) -> str:
    found = re.search(rb"[\x80-\xff]{1,8}", line)
    return found[0].hex(" ") if found else ""


def _is_utf8_text(line: bytes) -> bool:
    """Whether a line that could be UTF-8 is that, and not some letters of another encoding."""
    text = line.decode()
    weight = sum((len(one.encode()) > 2) + 1 for one in text if not one.isascii())
    return weight >= 4 or re.search("[A-Za-z][À-ſ]|[À-ſ][A-Za-z]", text) is not None


def _survey(content: Content) -> _Survey:
    """Look at all lines of a file that is not UTF-8, and keep a sample of those beyond ASCII."""
    survey = _Survey()
    size = 0
    for number, line in _foreign_lines(content):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            survey.broken += 1
            if survey.broken == 1:
                survey.first_broken = number, line[error.start :][:200]
            if size < _SAMPLE_BYTES:
                pieces = list(_pieces(line))
                survey.sample += pieces
                size += sum(map(len, pieces))
            continue
        survey.sound += 1
        if not _is_utf8_text(survey.first_sound[1]):
            survey.first_sound = number, line
    return survey


def _foreign_lines(content: Content) -> Iterator[tuple[int, bytes]]:
    """The lines that are not all ASCII, with their numbers."""
    stream = io.BufferedReader(ByteStream(content.text_bytes()), 2**17)
    for number, line in enumerate(stream, 1):
        if not line.isascii():
            yield number, line


def _pieces(line: bytes) -> Iterator[bytes]:
    """The parts of a line that are not ASCII, cut where no encoding has half a character."""
    for piece in re.split(rb'[\r\n" ]' if len(line) > HEAD else rb"[\r\n]", line):
        if not piece.isascii():
            yield piece


def _newline(content: Content, encoding: str) -> str:
    """What ends a line: a line feed, unless there is none but carriage returns."""
    if encoding.startswith(("utf-16", "utf-32")):
        with Decoding(encoding=encoding).open(content, newline="") as text:
            head = text.read(HEAD)
        return "\r" if "\r" in head and "\n" not in head else "\n"
    returns = False
    for chunk in content.unpacked():
        if b"\n" in chunk:
            return "\n"
        returns = returns or b"\r" in chunk
    return "\r" if returns else "\n"
