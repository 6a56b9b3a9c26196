"""Documents as pieces of whole sentences, with the beginnings of words and sentences.

A corpus is encoded once, as a stream, into a temporary file, from which pieces are read as they are
asked for. Words are the tokenizer's own (its pre-tokenizer's); a sentence ends at a full stop, an
exclamation or question mark, or a line break.
"""

import logging
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from models.errors import DataError
from models.rows import iterate_rows
from models.token_files import Numbers, TokenFile

WORD, SENTENCE, FLAGS = 1, 2, 4
"""In the file a token is id * FLAGS, plus WORD and SENTENCE where it is the first of one."""
TEXTS_AT_ONCE, TOKENS_AT_ONCE = 1000, 2**20

_SENTENCE_END = re.compile(
    r"""(?: [.!?…]+ ["'”’)\]]* (?=\s) | [。！？]+ [”’）」』]* | (?=\n) ) (?: \s*\n )?""", re.VERBOSE
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Consecutive tokens of one document.

    Attributes:
        ids: (tokens,).
        words: Places at which words begin, the first place always.
        sentences: Places at which sentences begin, the first place always.
    """

    ids: list[int]
    words: list[int]
    sentences: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> "Piece":
        """Cut out some tokens."""
        return Piece(
            ids=self.ids[start:stop],
            words=_within(self.words, start, stop),
            sentences=_within(self.sentences, start, stop),
        )


class Pieces:
    """Documents cut into pieces of at most so many tokens, after whole sentences where possible.

    A longer sentence is cut before a word, a longer word anywhere.
    """

    def __init__(self, tokens: TokenFile, room: int, least_words: int = 1) -> None:
        """Cut the documents.

        Args:
            tokens: Of `encode_documents`.
            room: Most tokens of a piece.
            least_words: Pieces of fewer words are left out.
        """
        self._tokens = tokens
        starts: list[int] = []
        stops: list[int] = []
        documents: list[int] = []
        start = 0
        for document, end in enumerate(tokens.ends().tolist()):
            codes = tokens.read(start, end - start)
            for at, stop in _cut(codes, room):
                words = len(_places(codes[at:stop], WORD))
                if words >= least_words:
                    starts.append(start + at)
                    stops.append(start + stop)
                    documents.append(document)
            start = end
        left_out = tokens.documents - len(set(documents))
        if left_out:
            logger.warning(
                "%d of %d documents have fewer words than %d and are left out",
                left_out, tokens.documents, least_words,
            )  # fmt: skip
        self._starts, self._stops = np.array(starts, np.int64), np.array(stops, np.int64)
        self._documents = np.array(documents, np.int64)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> Piece:
        start, stop = int(self._starts[number]), int(self._stops[number])
        codes = self._tokens.read(start, stop - start)
        return Piece(
            ids=(codes // FLAGS).tolist(),
            words=_places(codes, WORD),
            sentences=_places(codes, SENTENCE),
        )

    @property
    def lengths(self) -> list[int]:
        """Tokens of each piece."""
        lengths: list[int] = (self._stops - self._starts).tolist()
        return lengths

    @property
    def documents(self) -> list[int]:
        """Number of each piece's document."""
        documents: list[int] = self._documents.tolist()
        return documents

    def count_ids(self, vocab_size: int) -> torch.Tensor:
        """How often each id occurs in the documents, (vocab,) int64."""
        counts = np.zeros(vocab_size, np.int64)
        for start in range(0, self._tokens.tokens, TOKENS_AT_ONCE):
            ids = self._tokens.read(start, TOKENS_AT_ONCE) // FLAGS
            counts += np.bincount(ids, minlength=vocab_size)
        return torch.from_numpy(counts)

    def draw_elsewhere(self, number: int, generator: torch.Generator) -> int:
        """Draw a piece of another document than this piece's, each with the same probability.

        Raises:
            DataError: There is one document only.
        """
        document = self._documents[number]
        first, after = np.searchsorted(self._documents, [document, document + 1]).tolist()
        others = len(self) - (after - first)
        if not others:
            raise DataError(
                "next-sentence prediction needs segments of other documents, but the corpus has "
                "one document with at least two words; give more documents"
            )
        drawn = int(torch.randint(others, (), generator=generator))
        return drawn if drawn < first else drawn + after - first


def encode_documents(encoder: Any, rows: Path) -> TokenFile:
    """Encode the `text` of a row file into a temporary file of ids with their flags.

    No part of a text becomes a special token.
    """
    backend = encoder.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - the result holds it
    ends: list[int] = []
    total = text_bytes = 0
    for texts in _batches(rows):
        text_bytes += sum(len(text.encode()) for text in texts)
        for text, encoding in zip(
            texts, backend.encode_batch(texts, add_special_tokens=False), strict=True
        ):
            codes = _codes(text, encoding)
            file.write(codes.astype("<u4").tobytes())
            total += len(codes)
            ends.append(total)
    file.write(np.array(ends, "<i8").tobytes())
    file.flush()
    return TokenFile(file=file, width=4, tokens=total, documents=len(ends), text_bytes=text_bytes)


def _batches(rows: Path) -> Iterator[list[str]]:
    batch: list[str] = []
    for row in iterate_rows(rows):
        batch.append(row["text"])
        if len(batch) == TEXTS_AT_ONCE:
            yield batch
            batch = []
    yield batch


def _codes(text: str, encoding: Any) -> Numbers:
    """Ids of one document with their flags, (tokens,)."""
    ids = np.array(encoding.ids, np.int64)
    if not len(ids):
        return ids
    words = np.array([-1 if one is None else one for one in encoding.word_ids])
    ends = [found.end() for found in _SENTENCE_END.finditer(text)]
    begins = np.array([start for start, _ in encoding.offsets])
    sentences = np.searchsorted(ends, begins, side="right")  # sentence ends before each token
    first_of_sentence = np.diff(sentences, prepend=-1) > 0
    first_of_word = (np.diff(words, prepend=-2) != 0) | first_of_sentence
    flags = first_of_word.astype(np.int64) * WORD + first_of_sentence.astype(np.int64) * SENTENCE
    codes: Numbers = ids * FLAGS + flags
    return codes


def _cut(codes: Numbers, room: int) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(codes):
        stop = min(len(codes), at + room)
        if stop < len(codes):
            after = codes[at + 1 : stop + 1]  # the places at which the next piece may begin
            for flag in (SENTENCE, WORD):
                found = np.flatnonzero(after & flag)
                if len(found):
                    stop = at + 1 + int(found[-1])
                    break
        yield at, stop
        at = stop


def _places(codes: Numbers, flag: int) -> list[int]:
    inner: list[int] = (np.flatnonzero(codes[1:] & flag) + 1).tolist()
    return [0, *inner]


def _within(places: list[int], start: int, stop: int) -> list[int]:
    return [0, *(one - start for one in places if start < one < stop)]
