"""A tokenizer that has the special tokens of every objective, and rows to encode."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForPreTraining,
    PreTrainedTokenizerFast,
)

from models.families.config import ArchitectureConfig
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


def make_network(architecture: ArchitectureConfig, tokenizer: Any, *, seed: int) -> Any:
    """BERT of two layers, BART of one, as `build_model` would."""
    a, rates = architecture, dict.fromkeys(("dropout", "attention_dropout"), 0.0)
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if a.layers == 2:
            return BertForPreTraining(
                BertConfig(
                    vocab_size=len(tokenizer), hidden_size=a.width, num_hidden_layers=a.layers,
                    num_attention_heads=a.heads, intermediate_size=4 * a.width,
                    max_position_embeddings=a.context, hidden_dropout_prob=0.0,
                    attention_probs_dropout_prob=0.0, pad_token_id=pad,
                )
            ).eval()  # fmt: skip
        return BartForConditionalGeneration(
            BartConfig(
                vocab_size=len(tokenizer), d_model=a.width, encoder_layers=1, decoder_layers=1,
                encoder_attention_heads=a.heads, decoder_attention_heads=a.heads,
                encoder_ffn_dim=4 * a.width, decoder_ffn_dim=4 * a.width,
                max_position_embeddings=a.context, pad_token_id=pad, bos_token_id=None,
                eos_token_id=eos, decoder_start_token_id=eos, forced_eos_token_id=None, **rates,
            )
        ).eval()  # fmt: skip
