"""What masked language modelling and denoising share: rows that are drawn anew, and their training.

Documents are cut into pieces, one a row. What is hidden of it is drawn from a generator of the
row's own, seeded by its number in the order of training: epochs differ, and a resumed run draws
the same. Held-out rows are drawn from one fixed seed, so that all models restore the same rows,
whatever their own seeds. Plan, optimiser, schedule and checkpoints are those of pretraining.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import TrainingArguments

from models.distributed.team import current_team
from models.errors import DataError, ModelError, ParameterError
from models.families.config import ArchitectureConfig
from models.families.networks import build_model, parameter_count
from models.language.folders import load_tokenizer, save_model
from models.language.likelihood import HELD_OUT_TOKENS
from models.language.packing import cut_rows
from models.objectives.batches import Batch, Row, cut_batch, to_device
from models.objectives.documents import Pieces, encode_documents
from models.randomness import derive_seed
from models.rows import write_rows
from models.runtime import TrainingRun
from models.training.account import Pace, publish_account
from models.training.blocks import document_sources
from models.training.config import PretrainConfig
from models.training.order import Plan, plan_steps
from models.training.setup import GuardedTrainer, train, trainer_settings

SAMPLES = "samples.jsonl"
"""Beside the model's folder: what it restores of held-out rows."""
SAMPLED_ROWS = 20
HELD_OUT_SEED = 0


class Objective(ABC):
    """How rows are made, what the loss of a batch is, and what is measured.

    Attributes:
        special: Names of the special tokens that the tokenizer must have.
        added_tokens: Of a row, beside the piece's.
        least_words: Of a piece; shorter ones are left out.
    """

    special: tuple[str, ...]
    added_tokens: int
    least_words: int = 1

    def __init__(self, encoder: Any, config: PretrainConfig) -> None:
        self.encoder = encoder
        self.config = config
        self.room = config.block_tokens - self.added_tokens

    @abstractmethod
    def make_row(self, pieces: Pieces, number: int, generator: torch.Generator) -> Row:
        """Make a row of a piece; it has `input_ids` and `labels`."""

    @abstractmethod
    def collate(self, rows: Sequence[Row], of: int | None = None) -> Batch:
        """Pad rows, which are some of a batch of `of` rows."""

    @abstractmethod
    def without_effect(self, row: Row) -> Row:
        """Make a row that can be computed and counts for nothing."""

    @abstractmethod
    def loss(self, model: Any, batch: Batch, targets: torch.Tensor) -> torch.Tensor:
        """Compute these rows' share of the loss of a batch with so many targets."""

    @abstractmethod
    def sums(self, model: Any, batch: Batch, unigram: torch.Tensor) -> Mapping[str, float]:
        """Compute what `metrics` makes means of, for some rows.

        Args:
            unigram: (vocab,), log-probabilities of the corpus's tokens, whatever their place.
        """

    @abstractmethod
    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Make metrics of sums over all held-out rows."""

    @abstractmethod
    def samples(self, model: Any, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """Show what the model restores of held-out rows."""


def pretrain_reconstruction(
    objective: Callable[[Any, PretrainConfig], Objective],
    *,
    tokenizer: Path,
    corpus: Path,
    heldout: Path,
    architecture: ArchitectureConfig,
    config: PretrainConfig,
    run: TrainingRun,
) -> dict[str, float]:
    """Train a network from scratch to restore documents, and publish its folder and samples.

    Returns:
        Final metrics: the objective's, tokens learned from, tokens of the corpus, parameters.

    Raises:
        ParameterError: Rows are longer than the context, or models are spread over processes.
        ModelError: The tokenizer lacks a special token.
        DataError: The corpus or the held-out documents hold no piece that can be used.
        DivergedError: The loss is not finite.
    """
    _refuse_what_cannot_work(architecture, config)
    encoder = load_tokenizer(tokenizer)
    task = objective(encoder, config)
    _want_special(encoder, tokenizer, task.special)
    pieces = _pieces(task, corpus)
    held_out = HeldOutRows(task, _pieces(task, heldout), unigram_logprobs(pieces, encoder))
    model = build_model(architecture, encoder, seed=derive_seed(run.seed, "pretrain.weights"))
    plan = _plan(task, pieces, corpus, run.seed)
    settings = trainer_settings(config, run, stage="pretrain", steps=config.steps)
    trainer = RowTrainer(
        objective=task,
        model=model,
        config=config,
        args=TrainingArguments(**settings, remove_unused_columns=False),
        train_dataset=DrawnRows(task, pieces, plan.order, derive_seed(run.seed, "pretrain.rows")),
        steps=plan.places,
        decay_embeddings=config.decay_embeddings,
        callbacks=[Pace(plan, config, run)],
    )
    train(trainer, run, stage="pretrain", measure=held_out.measure, spikes=config.spikes)
    measured = held_out.measure(model)
    run.log(measured, trainer.state.global_step)
    save_model(model, encoder, run.out)
    samples = held_out.samples(model)
    if current_team().leads:
        write_rows(run.out.with_name(SAMPLES), samples)
    return {
        **measured,
        **publish_account(plan, trainer, config, run),
        "pretrain/corpus_tokens": float(sum(pieces.lengths)),
        "pretrain/parameters": float(parameter_count(model)),
    }


class DrawnRows(Dataset[Row]):
    """Rows of pieces in an order, each drawn when it is asked for."""

    def __init__(self, task: Objective, pieces: Pieces, order: Sequence[int], seed: int) -> None:
        self._task = task
        self._pieces = pieces
        self._order = order
        self._seed = seed

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Row:
        seed = derive_seed(self._seed, str(index))
        generator = torch.Generator().manual_seed(seed)
        return self._task.make_row(self._pieces, self._order[index], generator)


class RowTrainer(GuardedTrainer):
    """A trainer on rows of an objective, those of like length computed together."""

    def __init__(self, *, objective: Objective, **settings: Any) -> None:
        self._objective = objective
        super().__init__(data_collator=objective.collate, **settings)
        self.model_accepts_loss_kwargs = True  # so that Trainer counts the labels of the batch

    def collate(self, rows: list[Any], of: int) -> Batch:
        """Lay out some rows of a batch of `of` rows."""
        return self._objective.collate(rows, of)

    def without_effect(self, row: dict[str, Any]) -> dict[str, Any]:
        """Make a row that can be computed and counts for nothing."""
        return self._objective.without_effect(row)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Compute the mean loss over the targets of the whole batch."""

        def compute_share(part: Batch) -> torch.Tensor:
            # accelerate puts mixed precision around the model's own forward, perhaps not called.
            with self.accelerator.autocast():
                return self._objective.loss(model, part, num_items_in_batch)

        return self.accumulate(list(cut_batch(inputs, self.tokens_per_microbatch)), compute_share)


class HeldOutRows:
    """Held-out rows, the same for all models with one tokenizer."""

    def __init__(self, task: Objective, pieces: Pieces, unigram: torch.Tensor) -> None:
        self._task = task
        self._unigram = unigram
        lengths = pieces.lengths
        self._rows = DrawnRows(task, pieces, range(len(pieces)), HELD_OUT_SEED)
        self._by_length = sorted(range(len(pieces)), key=lambda number: lengths[number])
        most = min(HELD_OUT_TOKENS, task.config.tokens_per_microbatch)
        ordered = [lengths[number] + task.added_tokens for number in self._by_length]
        self._parts = list(cut_rows(ordered, most))

    @torch.no_grad()
    def measure(self, model: Any) -> dict[str, float]:
        """Restore all held-out rows; the model is in evaluation mode then."""
        model.eval()
        sums: Counter[str] = Counter()
        for part in self._parts:
            rows = [self._rows[number] for number in self._by_length[part]]
            batch = to_device(self._task.collate(rows), model.device)
            sums.update(self._task.sums(model, batch, self._unigram.to(model.device)))
        return self._task.metrics(sums)

    @torch.no_grad()
    def samples(self, model: Any) -> list[dict[str, Any]]:
        """What the model restores of the first held-out rows."""
        rows = [self._rows[number] for number in range(min(SAMPLED_ROWS, len(self._rows)))]
        return list(self._task.samples(model, rows))


def unigram_logprobs(pieces: Pieces, encoder: Any) -> torch.Tensor:
    """Log-probability of each token by how often it occurs in the corpus, (vocab,) float64.

    EOS stands once behind each piece. One is added to each count, so that none is impossible.
    """
    counts = pieces.count_ids(len(encoder)).double()
    counts[encoder.eos_token_id] += len(pieces)
    return ((counts + 1) / (counts + 1).sum()).log()


def _plan(task: Objective, pieces: Pieces, corpus: Path, seed: int) -> Plan:
    """Which pieces each step learns from."""
    lengths = [length + task.added_tokens for length in pieces.lengths]
    sources: list[str] = []
    if task.config.weights:
        named = document_sources(corpus)
        sources = [named[document] for document in pieces.documents]
    return plan_steps(lengths, task.config, seed=seed, sources=sources)


def _refuse_what_cannot_work(architecture: ArchitectureConfig, config: PretrainConfig) -> None:
    if config.block_tokens > architecture.context:
        raise ParameterError(
            f"block_tokens {config.block_tokens} exceeds the context {architecture.context}; "
            "lower block_tokens or raise the context"
        )
    if current_team().shards:
        raise ParameterError(
            f"family is {architecture.family}, whose weights are not spread over processes, but "
            "QUARTET_SHARDING or QUARTET_TENSOR_PARALLEL says so; choose sharding replicate, or a "
            "causal family"
        )


def _want_special(encoder: Any, path: Path, names: Sequence[str]) -> None:
    missing = [name for name in names if getattr(encoder, f"{name}_token_id") is None]
    if missing:
        raise ModelError(
            f"the tokenizer in {path} has no {' and no '.join(missing)} token, wanted "
            f"{', '.join(names)} to restore what is hidden; train one with tokenizer.mask=true, or "
            "choose a causal family"
        )


def _pieces(task: Objective, path: Path) -> Pieces:
    pieces = Pieces(encode_documents(task.encoder, path), task.room, task.least_words)
    if not len(pieces):
        raise DataError(
            f"{path} holds no document with at least {task.least_words} words, some were wanted to "
            "restore; give more rows or hold out a larger share"
        )
    return pieces
