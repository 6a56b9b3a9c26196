"""A tokenizer that has the tokens of every objective, pieces of texts, generators."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.language.config import TokenizerConfig
from models.language.folders import load_tokenizer
from models.language.tokenizer import train_tokenizer
from models.objectives.documents import Pieces, encode_documents
from models.rows import write_rows


def make_tokenizer(texts: Sequence[str], vocab_size: int = 300, kind: Any = "byte_bpe") -> Any:
    """A tokenizer that was trained on texts."""
    config = TokenizerConfig(vocab_size=vocab_size, kind=kind, mask=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.jsonl"
        write_rows(corpus, [{"text": text} for text in texts])
        train_tokenizer(corpus=corpus, config=config, context=64, out=Path(folder) / "out")
        return load_tokenizer(Path(folder) / "out")


def make_pieces(
    tokenizer: Any, folder: Path, texts: Sequence[str], room: int = 64, least_words: int = 1
) -> Pieces:
    """Pieces of some documents."""
    write_rows(folder / "texts.jsonl", [{"text": text} for text in texts])
    return Pieces(encode_documents(tokenizer, folder / "texts.jsonl"), room, least_words)


def seeded(seed: int = 0) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)
