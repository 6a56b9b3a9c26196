"""A corpus as token ids in a file: written once as a stream, kept, and read piece by piece.

    ids      (tokens,) uint16, or uint32 for a vocabulary that needs it: each document, then EOS
    ends     (documents,) int64: the number of tokens up to and with each document's EOS

Peak memory does not grow with the texts, only by a few numbers a document. Nothing is mapped:
the pages of a map count as this process's memory, what is read from a file does not. How it is
kept is told in `kept_files`.
"""

import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import torch

from models.kept_files import open_kept
from models.progress import Meter
from models.rows import iterate_rows

Numbers: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

BATCH_CHARACTERS = 2**20
"""Of the texts that one thread encodes at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    """The documents of a row file as token ids, in their order.

    Attributes:
        file: Stays readable when its name goes.
        width: Bytes of an id.
        tokens: Ids, an EOS behind each document included.
        text_bytes: Of the texts in UTF-8.
    """

    file: BinaryIO
    width: int
    tokens: int
    documents: int
    text_bytes: int

    def read(self, start: int, count: int) -> Numbers:
        """Read ids, (count,) int64, fewer at the end."""
        count = max(0, min(count, self.tokens - start))
        data = os.pread(self.file.fileno(), count * self.width, start * self.width)
        return np.frombuffer(data, dtype=f"<u{self.width}").astype(np.int64)

    def ends(self) -> Numbers:
        """Number of tokens up to each document's end, (documents,) int64."""
        self.file.seek(self.tokens * self.width)
        return np.fromfile(self.file, dtype="<i8", count=self.documents)


def open_tokens(tokenizer: Any, rows: Path, cache: Path | None = None) -> TokenFile:
    """Encode the `text` of a row file as it stands, an EOS behind each, or find that it was done.

    All of torch's threads encode; no part of a text becomes a special token.

    Args:
        cache: Folder for what is made from this row file, named after the file's contents; without
            one the result is kept no longer than it is open.
    """
    backend = plain_backend(tokenizer)
    if cache is None:
        file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - the result holds it
        return TokenFile(file=file, **_write(backend, tokenizer.eos_token_id, rows, file))
    identity = f"{backend.to_str()} {tokenizer.eos_token_id} {version('tokenizers')}"
    name = hashlib.sha256(f"{identity} {rows.stat().st_size}".encode()).hexdigest()
    file, facts = open_kept(
        cache / f"{rows.stem}-{name}.tokens",
        lambda file: _write(backend, tokenizer.eos_token_id, rows, file),
    )
    return TokenFile(file=file, **facts)


def plain_backend(tokenizer: Any) -> Any:
    """A tokenizer's own library's object, which encodes texts as they stand, whole."""
    backend = tokenizer.backend_tokenizer
    if backend.truncation is not None:  # nothing is set anew: another thread may be encoding
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    if not backend.encode_special_tokens:
        backend.encode_special_tokens = True
    return backend


def id_width(backend: Any, eos: int) -> int:
    """Bytes that each of a tokenizer's ids fits into, 2 or 4."""
    return 2 if max(eos, *backend.get_vocab().values()) < 2**16 else 4


def _write(backend: Any, eos: int, rows: Path, file: BinaryIO) -> dict[str, int]:
    width = id_width(backend, eos)
    tokens = text_bytes = 0
    ends: list[Numbers] = []
    meter = Meter(f"encoding {rows.name}", rows.stat().st_size / 1e6, "MB")

    def encode(texts: list[str]) -> tuple[Numbers, Numbers, int]:
        ids: list[int] = []
        stops: list[int] = []
        for encoding in backend.encode_batch_fast(texts, add_special_tokens=False):
            ids += encoding.ids
            ids.append(eos)
            stops.append(len(ids))
        size = sum(len(text.encode()) for text in texts)
        return np.array(ids, dtype=f"<u{width}"), np.array(stops, dtype="<i8"), size

    texts = (row["text"] for row in iterate_rows(rows))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for ids, stops, size in _in_order(pool, encode, _batches(texts)):
            file.write(ids.data)
            ends.append(stops + tokens)
            tokens, text_bytes = tokens + len(ids), text_bytes + size
            meter.add(size / 1e6)
    for part in ends:
        file.write(part.data)
    file.flush()
    documents = sum(map(len, ends))
    return {"width": width, "tokens": tokens, "documents": documents, "text_bytes": text_bytes}


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _in_order(pool: ThreadPoolExecutor, encode: Any, batches: Iterable[list[str]]) -> Iterator[Any]:
    """Encode on all threads and give results in order; few wait, whatever the number of batches."""
    waiting: deque[Future[Any]] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(encode, batch))
            if len(waiting) > 2 * torch.get_num_threads():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # what was stopped waits for no more than what is being encoded
        for future in waiting:
            future.cancel()
