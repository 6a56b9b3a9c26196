"""Pretraining: next-token prediction on packed blocks of the corpus, from random weights.

Second stage: reads the tokenizer's folder and a corpus, publishes the base model.

Documents are shuffled, joined with EOS between them and cut into blocks of equal length, so no
token is padding. Attention crosses the documents of a block, as in GPT-3. AdamW 0.9/0.95/1e-8,
weight decay on matrices only, clipping, warm-up and cosine to 10%, as in the LLaMA report.

Held-out loss is exact: blocks overlap by one token and the stream begins with an EOS, so each
token of each held-out document, and the EOS behind it, is predicted exactly once. Bits per byte
divide that by the documents' UTF-8 bytes and so compare models across tokenizers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import TrainingArguments, default_data_collator

from models.errors import DataError, ParameterError
from models.language.architectures import build_model, parameter_count
from models.language.config import ArchitectureConfig
from models.language.folders import load_tokenizer, save_model
from models.language.likelihood import bits_per_byte, held_out_loss
from models.language.tokenizer import encode_texts
from models.randomness import derive_seed
from models.rows import read_rows
from models.runtime import TrainingRun
from models.training.config import PretrainConfig
from models.training.order import corpus_blocks, training_order
from models.training.setup import GuardedTrainer, train, trainer_settings


def pretrain(
    *,
    tokenizer: Path,
    corpus: Path,
    heldout: Path,
    architecture: ArchitectureConfig,
    config: PretrainConfig,
    run: TrainingRun,
) -> dict[str, float]:
    """Train a causal language model from scratch and publish its folder.

    Returns:
        Final metrics: held-out loss, perplexity, bits per byte, tokens learned from, parameters.

    Raises:
        ParameterError: Blocks are longer than the context.
        DataError: The corpus fills no block, or nothing is held out.
        DivergedError: The loss is not finite.
    """
    if config.block_tokens > architecture.context:
        raise ParameterError(
            f"block_tokens {config.block_tokens} exceeds the context {architecture.context}; "
            "lower block_tokens or raise the context"
        )
    encoder = load_tokenizer(tokenizer)
    blocks = corpus_blocks(encoder, corpus, config.block_tokens, run.seed)
    held_out = _HeldOut(encoder, heldout, config.block_tokens)
    model = build_model(architecture, encoder, seed=derive_seed(run.seed, "pretrain.weights"))
    order = training_order(
        [config.block_tokens] * len(blocks),
        total=config.steps * config.batch_size,
        batch_size=config.batch_size,
        generator=torch.Generator().manual_seed(derive_seed(run.seed, "pretrain.order")),
    )
    settings = trainer_settings(config, run, stage="pretrain", steps=config.steps)
    trainer = GuardedTrainer(
        model=model,
        args=TrainingArguments(**settings),
        train_dataset=_Blocks(blocks, order),
        data_collator=default_data_collator,
    )
    train(trainer, run, stage="pretrain", measure=held_out.measure)
    measured = held_out.measure(model)
    run.log(measured, trainer.state.global_step)
    save_model(model, encoder, run.out)
    return {
        **measured,
        "pretrain/tokens": float(len(order) * config.block_tokens),
        "pretrain/corpus_tokens": float(blocks.numel()),
        "pretrain/parameters": float(parameter_count(model)),
    }


class _Blocks(Dataset[dict[str, torch.Tensor]]):
    """Packed blocks in the order of training; `blocks` is (blocks, block) int64."""

    def __init__(self, blocks: torch.Tensor, order: list[int]) -> None:
        self._blocks = blocks
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        block = self._blocks[self._order[index]]
        return {"input_ids": block, "labels": block}


class _HeldOut:
    """Held-out documents as blocks in which every token is predicted exactly once."""

    def __init__(self, encoder: Any, path: Path, block_tokens: int) -> None:
        texts = [row["text"] for row in read_rows(path)]
        self._byte_count = sum(len(text.encode()) for text in texts)
        if not self._byte_count:
            raise DataError(
                f"{path} holds no text, held-out documents were wanted to measure the loss on; "
                "give more rows or hold out a larger share"
            )
        stream = [encoder.eos_token_id]
        for ids in encode_texts(encoder, texts):
            stream += [*ids, encoder.eos_token_id]
        starts = range(0, len(stream) - 1, block_tokens - 1)
        self._first = [stream[start : start + 1] for start in starts]
        self._rest = [stream[start + 1 : start + block_tokens] for start in starts]

    def measure(self, model: Any) -> Mapping[str, float]:
        """Held-out loss in nats per token, as perplexity, and as bits per byte."""
        loss = held_out_loss(model, self._first, self._rest)
        return {
            "pretrain/heldout_loss": loss.mean,
            "pretrain/perplexity": loss.perplexity,
            "pretrain/bits_per_byte": bits_per_byte(loss.nll_sum, self._byte_count),
        }
