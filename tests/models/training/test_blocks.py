"""Packed blocks: exactly those of the plain way, whatever the documents and the cache."""

import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DataError
from models.language.tokenizer import encode_texts
from models.randomness import derive_seed
from models.rows import read_rows, write_rows
from models.training.blocks import Blocks, corpus_blocks

TEXTS = ["the cat sat on the mat", "", "a dog", "你好，世界。" * 30, "", "", "what is it?"]


def _plainly(encoder: Any, path: Path, block_tokens: int, seed: int) -> torch.Tensor:
    """The oracle: every document in memory, shuffled, joined with EOS, cut."""
    documents = encode_texts(encoder, [row["text"] for row in read_rows(path)])
    generator = torch.Generator().manual_seed(derive_seed(seed, "pretrain.documents"))
    stream: list[int] = []
    for index in torch.randperm(len(documents), generator=generator).tolist():
        stream += [*documents[index], encoder.eos_token_id]
    count = len(stream) // block_tokens
    return torch.tensor(stream[: count * block_tokens]).view(count, block_tokens)


@given(
    texts=st.lists(st.text(max_size=40), min_size=1, max_size=12),
    block_tokens=st.integers(2, 40),
    seed=st.integers(0, 2**32),
)
def test_blocks_are_those_of_the_plain_way(
    tokenizer: Any, tmp_path_factory: Any, texts: list[str], block_tokens: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "texts.jsonl"
    write_rows(path, [{"text": text} for text in texts])
    wanted = _plainly(tokenizer, path, block_tokens, seed)
    if not len(wanted):
        with pytest.raises(DataError, match=f"at least one block of {block_tokens}"):
            corpus_blocks(tokenizer, path, block_tokens, seed)
        return
    blocks = corpus_blocks(tokenizer, path, block_tokens, seed)
    assert len(blocks) == len(wanted)
    found = torch.stack([blocks[index] for index in range(len(blocks))])
    assert found.dtype == torch.int64
    assert torch.equal(found, wanted)


def test_cache_serves_every_seed_and_block_size(tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    write_rows(path, [{"text": text} for text in TEXTS * 3])
    for block_tokens, seed in [(16, 0), (16, 1), (5, 1), (200, 2)]:
        blocks = corpus_blocks(tokenizer, path, block_tokens, seed, cache=tmp_path / "cache")
        wanted = _plainly(tokenizer, path, block_tokens, seed)
        assert torch.equal(blocks[torch.arange(len(blocks))], wanted)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_blocks_by_a_tensor_of_numbers_repeat_and_keep_its_order(
    tokenizer: Any, corpus_file: Path
) -> None:
    blocks = corpus_blocks(tokenizer, corpus_file, 16, 0)
    wanted = _plainly(tokenizer, corpus_file, 16, 0)
    numbers = torch.tensor([3, 0, 3])
    assert torch.equal(blocks[numbers], wanted[numbers])
    with pytest.raises(IndexError):
        blocks[len(blocks)]


def test_where_a_block_is_cut_costs_no_copy_of_the_table_of_documents() -> None:
    documents = 100_000
    tokens = SimpleNamespace(ends=lambda: np.arange(1, documents + 1, dtype=np.int64) * 20)
    blocks = Blocks(tokens, torch.arange(documents), 50)  # type: ignore[arg-type]
    blocks.starts(6)
    tracemalloc.start()
    starts = blocks.starts(7)  # tokens 350 to 399; an EOS at 359, 379 and 399
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert starts.nonzero().flatten().tolist() == [0, 9, 29, 49]
    assert most < documents  # bytes; the table has 8 for each document
