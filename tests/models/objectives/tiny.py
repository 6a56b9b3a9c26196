"""A tokenizer that has the special tokens of every objective, and rows to encode."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from models.objectives.documents import Pieces, encode_documents
from models.rows import write_rows

SPECIAL = {"pad": "<|pad|>", "eos": "<|eos|>", "mask": "[MASK]", "cls": "[CLS]", "sep": "[SEP]"}


def make_tokenizer(texts: Sequence[str], vocab_size: int = 300) -> Any:
    """A byte-level BPE."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer=trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, **{f"{name}_token": token for name, token in SPECIAL.items()}
    )


def make_pieces(
    tokenizer: Any, folder: Path, texts: Sequence[str], room: int = 64, least_words: int = 1
) -> Pieces:
    """Pieces of some documents."""
    write_rows(folder / "texts.jsonl", [{"text": text} for text in texts])
    return Pieces(encode_documents(tokenizer, folder / "texts.jsonl"), room, least_words)


def seeded(seed: int = 0) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)
