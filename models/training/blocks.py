"""The corpus in packed blocks, read from its file of tokens as they are asked for.

Documents are shuffled, each followed by EOS, joined and cut into blocks of equal length; what fills
no block at the end is left out. Only the shuffled order is held: two numbers a document.
"""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils.data import Dataset

from models.errors import DataError
from models.randomness import derive_seed
from models.rows import iterate_rows
from models.token_files import TokenFile, open_tokens


class Blocks(Dataset[torch.Tensor]):
    """Blocks of documents in an order; `blocks[index]` is (block,) int64."""

    def __init__(self, tokens: TokenFile, order: torch.Tensor, block_tokens: int) -> None:
        """Lay the documents out.

        Args:
            order: (documents,) int64, a permutation of all or of some.
        """
        self._tokens = tokens
        self.block_tokens = block_tokens
        starts = tokens.ends()
        lengths = np.diff(starts, prepend=0)
        starts -= lengths
        self._starts = starts[order.numpy()]  # in the file, of each document of the stream
        self._ends = np.cumsum(lengths[order.numpy()])  # in the stream

    def __len__(self) -> int:
        return int(self._ends[-1]) // self.block_tokens if len(self._ends) else 0

    def starts(self, index: int) -> torch.Tensor:
        """Where the parts of a block begin, (block,) bool: at its first token and at each EOS.

        The EOS behind a document begins the next one, so every token is predicted from its own
        document, and the first one of each from an EOS, as at generation.
        """
        at, stop = index * self.block_tokens, (index + 1) * self.block_tokens
        first, last = np.searchsorted(self._ends, [at + 1, stop + 1])
        starts = torch.zeros(self.block_tokens, dtype=torch.bool)
        starts[0] = True
        starts[torch.from_numpy(self._ends[first:last] - 1 - at)] = True
        return starts

    def __getitem__(self, index: int | torch.Tensor) -> torch.Tensor:
        """Read a block, or those that a tensor of numbers names: (blocks, block)."""
        if isinstance(index, torch.Tensor):
            return torch.stack([self[one] for one in index.tolist()])
        if not 0 <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        at, stop = index * self.block_tokens, (index + 1) * self.block_tokens
        document = int(np.searchsorted(self._ends, at, side="right"))
        pieces = []
        while at < stop:
            end = int(self._ends[document])
            length = end - int(self._ends[document - 1]) if document else end
            start = int(self._starts[document]) + length - (end - at)
            pieces.append(self._tokens.read(start, min(end, stop) - at))
            at, document = min(end, stop), document + 1
        return torch.from_numpy(np.concatenate(pieces))


BlockTable: TypeAlias = torch.Tensor | Blocks
"""(blocks, block) int64 by numbers of blocks, from memory or from a file."""


def corpus_blocks(
    encoder: Any, path: Path, block_tokens: int, seed: int, *, cache: Path | None = None
) -> Blocks:
    """Shuffle `text` of a row file, join with EOS, cut into blocks, drop the rest.

    Args:
        cache: See `open_tokens`.

    Raises:
        DataError: The corpus fills no block.
    """
    tokens, order = _shuffled(encoder, path, block_tokens, seed, cache)
    return Blocks(tokens, order, block_tokens)


def blocks_by_source(
    encoder: Any, path: Path, block_tokens: int, seed: int, *, cache: Path | None = None
) -> dict[str, Blocks]:
    """Shuffle, join and cut the documents of each `source` of a row file apart from the others.

    A row without a source has the source "".

    Raises:
        DataError: The corpus fills no block.
    """
    tokens, order = _shuffled(encoder, path, block_tokens, seed, cache)
    sources = np.array(document_sources(path))[order.numpy()]
    return {
        str(name): Blocks(tokens, order[torch.from_numpy(sources == name)], block_tokens)
        for name in np.unique(sources)
    }


def document_sources(path: Path) -> list[str]:
    """The `source` of each row of a row file, "" where it has none."""
    return [str(row.get("source", "")) for row in iterate_rows(path)]


def _shuffled(
    encoder: Any, path: Path, block_tokens: int, seed: int, cache: Path | None
) -> tuple[TokenFile, torch.Tensor]:
    tokens = open_tokens(encoder, path, cache)
    if tokens.tokens < block_tokens:
        raise DataError(
            f"{path} holds {tokens.tokens} tokens, wanted at least one block of {block_tokens}; "
            "give more text or lower block_tokens"
        )
    generator = torch.Generator().manual_seed(derive_seed(seed, "pretrain.documents"))
    return tokens, torch.randperm(tokens.documents, generator=generator)
