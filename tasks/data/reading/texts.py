"""Rows of a text file: a text for each line, or running text cut into documents.

Which of the two it is decides what is learned: of a play that is cut into lines, no line break, and
speakers' names go as duplicates. Where the text itself does not tell, it is asked.
"""

import itertools
import re
from collections.abc import Iterator

from models.errors import DataError
from models.files import shown
from tasks.data.config import TextMode
from tasks.data.reading.json_rows import Row
from tasks.data.reading.lines import Decoding
from tasks.data.reading.packing import Content

DOCUMENT_CHARACTERS = 4_000
"""Running text is cut at the first end of a paragraph behind so many characters, so that a book is
many documents: they are shuffled, held out and compared one by one."""
_SAMPLE_CHARACTERS = 2**21
_SENTENCE_ENDS = (*".!?…:;\"'”’»)]}。！？」』）", "...")


def read_text(
    content: Content, decoding: Decoding, text: TextMode, notes: list[str]
) -> Iterator[Row]:
    """Read a text file as lines or as running text.

    Args:
        text: Which of the two; ask refuses a file whose lines are not clearly texts of their own.

    Raises:
        DataError: It is to be asked.
    """
    if text == "ask":
        reason = _looks_running(_sample(content, decoding))
        if reason:
            raise DataError(
                f"{shown(content.name)} may be running text or one text a line: {reason}; wanted "
                "to know which: set data.text=documents (running text, line breaks are learned) or "
                "data.text=lines (each line is a text of its own)"
            )
    if text == "documents":
        notes.append(f"running text, in documents of about {DOCUMENT_CHARACTERS:,} characters")
        yield from ({"text": document} for document in _documents(decoding.lines(content)))
        return
    notes.append("each line is a text (running text: data.text=documents)")
    for line in decoding.lines(content):
        if line.strip():
            yield {"text": line}


def _documents(lines: Iterator[str]) -> Iterator[str]:
    """Cut lines into documents at blank lines; joined they are the whole text again."""
    held: list[str] = []
    size = 0
    for line in lines:
        if size > DOCUMENT_CHARACTERS and (
            (held[-1].isspace() and line.strip()) or size > 2 * DOCUMENT_CHARACTERS
        ):
            yield "".join(held)
            held, size = [], 0
        held.append(f"{line}\n")
        size += len(line) + 1
    if any(not line.isspace() for line in held):
        yield "".join(held)


def _sample(content: Content, decoding: Decoding) -> list[str]:
    sample: list[str] = []
    size = 0
    for line in decoding.lines(content):
        size += len(line)
        if size > _SAMPLE_CHARACTERS:
            break
        sample.append(line.rstrip())
    return sample


def _looks_running(lines: list[str]) -> str:
    """Why lines may not be texts of their own; empty if they are."""
    texts = [line for line in lines if line.strip()]
    if len(texts) < 2:
        return ""
    repeated = len(texts) - len(set(texts))
    if repeated > 0.2 * len(texts) and len(texts) >= 4:
        return f"{repeated:,} of {len(texts):,} lines repeat others"
    speakers = sum(bool(re.fullmatch(r"\S.{0,40}:", line)) for line in texts)
    if speakers > 0.1 * len(texts):
        return f"{speakers:,} of {len(texts):,} lines are names with a colon, as in a play"
    runs = [len([*run]) for filled, run in itertools.groupby(lines, bool) if filled]
    inside = sum(run for run in runs if run > 1)
    if len(runs) > 1 and inside > 0.3 * len(texts):
        return f"{inside:,} of {len(texts):,} lines stand in paragraphs of several lines"
    pairs = list(itertools.pairwise(texts))
    continued = sum(
        not first.endswith(_SENTENCE_ENDS) and second.lstrip()[:1].islower()
        for first, second in pairs
    )
    if continued > 0.2 * len(pairs) and len(pairs) >= 3:
        return f"{continued:,} of {len(texts):,} lines go on in the next, as wrapped prose does"
    return ""
