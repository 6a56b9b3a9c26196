"""Pretraining: next-token prediction on packed blocks of the corpus, from random weights.

Second stage: reads the tokenizer's folder and a corpus, publishes the base model.

Documents are shuffled, joined with EOS between them and cut into blocks of equal length, so no
token is padding. Attention crosses the documents of a block, as in GPT-3, unless it is bounded by
them: then each document, behind an EOS, is a sequence of its own. AdamW 0.9/0.95/1e-8,
weight decay on matrices only, clipping, warm-up and cosine to 10%, as in the LLaMA report.

The corpus may be larger than memory: its tokens lie in a file, from which blocks are read.

Held-out loss is exact: blocks overlap by one token and the stream begins with an EOS, so each
token of each held-out document, and the EOS behind it, is predicted exactly once. Bits per byte
divide that by the documents' UTF-8 bytes and so compare models across tokenizers.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Dataset
from transformers import TrainingArguments, default_data_collator

from models.errors import DataError, ParameterError
from models.families.config import ArchitectureConfig
from models.families.networks import build_model, parameter_count
from models.families.routing import RoutingWatch, shared_balance
from models.language.folders import load_tokenizer, save_model
from models.language.likelihood import WINDOWS_AT_ONCE, HeldOutLoss, held_out_loss
from models.language.packing import cut_rows, use_packed_attention
from models.randomness import derive_seed
from models.runtime import TrainingRun
from models.token_files import open_tokens
from models.training.account import Pace, publish_account
from models.training.blocks import Blocks, blocks_by_source, corpus_blocks
from models.training.config import PretrainConfig
from models.training.order import plan_steps
from models.training.setup import IGNORED_LABEL, GuardedTrainer, train, trainer_settings


def pretrain(
    *,
    tokenizer: Path,
    corpus: Path,
    heldout: Path,
    architecture: ArchitectureConfig,
    config: PretrainConfig,
    run: TrainingRun,
    cache: Path | None = None,
) -> dict[str, float]:
    """Train a causal language model from scratch and publish its folder.

    Args:
        cache: Folder for the tokens of both row files, named after their contents; see
            `open_tokens`.

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
    rows, sources = _rows(encoder, corpus, config, run.seed, cache)
    plan = plan_steps([config.block_tokens] * len(rows), config, seed=run.seed, sources=sources)
    held_out = _HeldOut(encoder, heldout, config, cache)
    model = build_model(architecture, encoder, seed=derive_seed(run.seed, "pretrain.weights"))
    if config.bounded_documents:
        use_packed_attention(model)
    settings = trainer_settings(config, run, stage="pretrain", steps=config.steps)
    trainer = BlockTrainer(
        model=model,
        config=config,
        args=TrainingArguments(**settings),
        train_dataset=rows,
        data_collator=default_data_collator,
        steps=plan.steps,
        decay_embeddings=config.decay_embeddings,
        callbacks=[Pace(plan, config, run)],
    )
    train(trainer, run, stage="pretrain", measure=held_out.measure, spikes=config.spikes)
    measured = held_out.measure(model)
    run.log(measured, trainer.state.global_step)
    save_model(model, encoder, run.out)
    return {
        **measured,
        **publish_account(plan, trainer, config, run),
        "pretrain/parameters": float(parameter_count(model)),
    }


class BlockTrainer(GuardedTrainer):
    """A trainer on blocks of equal length."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Compute the mean loss over the tokens of the whole batch."""
        blocks, length = inputs["input_ids"].shape
        whole_loss = super().compute_loss
        parts = list(cut_rows([length] * blocks, self.tokens_per_microbatch))
        with shared_balance(model, len(parts)):
            return self.accumulate(
                parts,
                lambda rows: whole_loss(
                    model,
                    _laid_out({name: tensor[rows] for name, tensor in inputs.items()}),
                    num_items_in_batch=num_items_in_batch,
                ),
            )


def _laid_out(inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Blocks whose documents are bounded, as one packed row; others as they are.

    Parts of one length become neighbours, for which attention has one call on a CPU.

    Args:
        inputs: `input_ids` and `labels`, (blocks, block), and `starts` of documents where bounded.
    """
    if "starts" not in inputs:
        return inputs
    labels = inputs["labels"].clone()
    labels[:, 0] = IGNORED_LABEL  # nothing in its block precedes it
    starts = inputs["starts"].flatten()
    first = starts.nonzero().flatten()  # (parts,)
    lengths = torch.cat([first, first.new_tensor([len(starts)])]).diff()
    order = lengths.argsort(stable=True)
    first, lengths = first[order], lengths[order]
    boundaries = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()
    positions = torch.arange(len(starts), device=starts.device)
    positions -= boundaries[:-1].repeat_interleave(lengths)
    places = first.repeat_interleave(lengths) + positions  # of each token, in the blocks
    longest = int(lengths.max())
    return {
        "input_ids": inputs["input_ids"].flatten()[places][None],
        "labels": labels.flatten()[places][None],
        "shift_labels": labels.flatten().roll(-1)[places][None],  # the next token's in its block
        "position_ids": positions[None],
        "cu_seq_lens_q": boundaries,
        "cu_seq_lens_k": boundaries,
        "max_length_q": longest,
        "max_length_k": longest,
        "use_cache": False,
    }


def _rows(
    encoder: Any, corpus: Path, config: PretrainConfig, seed: int, cache: Path | None
) -> tuple[Any, list[str]]:
    """The blocks of a corpus as rows, and each one's source where the sources are mixed."""
    bounded = config.bounded_documents
    if not config.weights:
        blocks = corpus_blocks(encoder, corpus, config.block_tokens, seed, cache=cache)
        return _Rows(blocks, bounded), []
    parts = blocks_by_source(encoder, corpus, config.block_tokens, seed, cache=cache)
    sources = [name for name, blocks in parts.items() for _ in range(len(blocks))]
    return ConcatDataset([_Rows(one, bounded) for one in parts.values()]), sources


class _Rows(Dataset[dict[str, torch.Tensor]]):
    """Packed blocks as rows to learn from."""

    def __init__(self, blocks: Blocks, bounded: bool) -> None:
        self._blocks = blocks
        self._bounded = bounded

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        block = self._blocks[index]
        row = {"input_ids": block, "labels": block}
        return row | {"starts": self._blocks.starts(index)} if self._bounded else row


class _HeldOut:
    """Held-out documents as blocks in which every token is predicted exactly once."""

    def __init__(
        self, encoder: Any, path: Path, config: PretrainConfig, cache: Path | None
    ) -> None:
        self._tokens = open_tokens(encoder, path, cache)
        self._eos: int = encoder.eos_token_id
        self._predicted = config.block_tokens - 1
        self._most_tokens = config.tokens_per_microbatch
        self._bounded = config.bounded_documents
        if not self._tokens.text_bytes:
            raise DataError(
                f"{path} holds no text, held-out documents were wanted to measure the loss on; "
                "give more rows or hold out a larger share"
            )

    def measure(self, model: Any) -> Mapping[str, float]:
        """Held-out loss in nats per token, as perplexity, and as bits per byte; use of experts."""
        with RoutingWatch(model) as routing:
            loss = self._loss(model)
        return {
            "pretrain/heldout_loss": loss.mean,
            "pretrain/perplexity": loss.perplexity,
            "pretrain/bits_per_byte": loss.bits_per_byte,
            **{f"pretrain/{name}": value for name, value in routing.metrics().items()},
        }

    def _loss(self, model: Any) -> HeldOutLoss:
        nll_sum = 0.0
        for first, rest in self._windows():
            nll_sum += held_out_loss(model, first, rest, self._most_tokens).nll_sum
        return HeldOutLoss(
            nll_sum=nll_sum,
            token_count=self._tokens.tokens,
            byte_count=self._tokens.text_bytes,
        )

    def _windows(self) -> Iterator[tuple[list[list[int]], list[list[int]]]]:
        """What is given and what is predicted, some blocks at a time: each token once."""
        size = self._predicted
        if not self._bounded:
            window = WINDOWS_AT_ONCE * size
            for start in range(0, self._tokens.tokens, window):
                before = self._tokens.read(start - 1, 1).tolist() if start else [self._eos]
                yield _cut([*before, *self._tokens.read(start, window).tolist()], size)
            return
        first: list[list[int]] = []
        rest: list[list[int]] = []
        ends = self._tokens.ends().tolist()
        for start, end in zip([0, *ends], ends, strict=False):
            own = _cut([self._eos, *self._tokens.read(start, end - start).tolist()], size)
            first, rest = first + own[0], rest + own[1]
            if len(first) >= WINDOWS_AT_ONCE or end == ends[-1]:
                yield first, rest
                first, rest = [], []


def _cut(stream: list[int], size: int) -> tuple[list[list[int]], list[list[int]]]:
    """Blocks that overlap by one token: the first one of each, and the others."""
    places = range(0, len(stream) - 1, size)
    return [stream[at : at + 1] for at in places], [stream[at + 1 : at + 1 + size] for at in places]
