"""Which documents a vocabulary is learned from, so that training it keeps within a gigabyte."""

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from models.rows import iterate_rows

DISTINCT_BYTES = 12_000_000
"""Of the distinct words, cut at spaces; BPE's training was seen to take 90 times as much memory."""

logger = logging.getLogger(__name__)


def training_texts(corpus: Path) -> Iterator[str]:
    """Stream the texts of a row file: all of them, or part where they have too many words.

    BPE's training holds every distinct word and its count. These grow slowly in languages with
    spaces (5 MB in 100 MB of English prose) and with the corpus in those without. Where they would
    take more than about a gigabyte, every second document is taken, every fourth, and so on; the
    log says so.
    """
    stride = 1
    while _too_many_words(corpus, stride):
        stride *= 2
    if stride > 1:
        logger.warning(
            "the vocabulary is learned from 1 in %d documents of %s: its distinct words would not "
            "fit into a gigabyte",
            stride, corpus.name,
        )  # fmt: skip
    return _every(corpus, stride)


def _every(corpus: Path, stride: int) -> Iterator[str]:
    return (row["text"] for row in islice(iterate_rows(corpus), 0, None, stride))


def _too_many_words(corpus: Path, stride: int) -> bool:
    if corpus.stat().st_size <= stride * DISTINCT_BYTES:
        return False
    words: set[str] = set()
    size = 0
    for text in _every(corpus, stride):
        fresh = set(text.split()) - words
        words |= fresh
        size += sum(len(word.encode()) for word in fresh)
        if size > DISTINCT_BYTES:
            return True
    return False
