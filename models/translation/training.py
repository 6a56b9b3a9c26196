"""Sequence-to-sequence training: a target is learned token by token from its source.

Teacher forcing: the decoder reads the reference up to a token and predicts it; the loss is the mean
over the target's tokens and its EOS, in the whole batch. With label smoothing e the wanted
distribution is (1 - e) on the token and e spread over the vocabulary (Szegedy et al., 2016, section
7); held-out losses are without. Nothing here knows about languages: rows of document and summary
are trained on in the same way.

Any sequence-to-sequence model of transformers: BART, pretrained or not, the Transformer of 2017,
and the recurrent yardsticks. A source is its tokens and EOS; a target too.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import AutoModelForSeq2SeqLM, TrainingArguments

from models.errors import DataError
from models.families.config import ArchitectureConfig
from models.families.networks import build_model, parameter_count
from models.language.folders import load_seq2seq_model, load_tokenizer, save_model
from models.language.packing import cut_rows
from models.language.tokenizer import encode_completions
from models.randomness import derive_seed
from models.rows import iterate_rows
from models.runtime import TrainingRun
from models.training.order import training_order
from models.training.setup import IGNORED_LABEL, GuardedTrainer, train, trainer_settings
from models.translation.config import TranslationConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Sources with their targets, as token ids, an EOS behind each."""

    sources: list[list[int]]
    targets: list[list[int]]

    def __len__(self) -> int:
        return len(self.sources)

    def lengths(self) -> list[int]:
        """Tokens of each pair, the longer side twice: what a padded batch of such costs."""
        return [2 * max(len(s), len(t)) for s, t in zip(self.sources, self.targets, strict=True)]


def train_translator(
    *,
    start: Path,
    pairs: Path,
    heldout: Path,
    architecture: ArchitectureConfig | None,
    config: TranslationConfig,
    run: TrainingRun,
) -> dict[str, float]:
    """Train a sequence-to-sequence model on rows of `source` and `target`, publish its folder.

    Args:
        start: Folder of a base model; of a tokenizer where an architecture is given.
        architecture: Of a network from scratch; None trains the base model's, from its weights or,
            by `config.initial`, from random ones.

    Returns:
        Final metrics: held-out loss in nats per token, pairs used and dropped, tokens learned
        from, parameters.

    Raises:
        ModelError: The base folder is not a complete sequence-to-sequence model.
        DataError: No pair is left to learn from or to measure on.
        DivergedError: The loss is not finite.
    """
    tokenizer = load_tokenizer(start)
    model = _begin(start, tokenizer, architecture, config, run.seed)
    longest = min(config.max_tokens, model.config.max_position_embeddings)
    learned, dropped = read_pairs(tokenizer, pairs, longest)
    held_out, _ = read_pairs(tokenizer, heldout, model.config.max_position_embeddings)
    order = training_order(
        learned.lengths(),
        total=config.steps * config.batch_size,
        batch_size=config.batch_size,
        generator=torch.Generator().manual_seed(derive_seed(run.seed, "translate.order")),
    )
    collate = partial(
        collate_pairs,
        pad=tokenizer.pad_token_id,
        first=model.config.decoder_start_token_id,
    )
    settings = trainer_settings(config, run, stage="translate", steps=config.steps)
    trainer = TranslationTrainer(
        model=model,
        config=config,
        label_smoothing=config.label_smoothing,
        args=TrainingArguments(**settings, remove_unused_columns=False),
        train_dataset=_Rows(learned, order),
        data_collator=collate,
    )

    def measure(model: Any) -> Mapping[str, float]:
        loss = held_out_loss(model, held_out, collate, config.tokens_per_microbatch)
        return {"translate/heldout_loss": loss}

    train(trainer, run, stage="translate", measure=measure)
    measured = measure(model)
    run.log(measured, trainer.state.global_step)
    save_model(model, tokenizer, run.out)
    return {
        **measured,
        "translate/pairs": float(len(learned)),
        "translate/dropped_pairs": float(dropped),
        "translate/tokens": float(
            sum(len(learned.sources[row]) + len(learned.targets[row]) for row in order)
        ),
        "translate/parameters": float(parameter_count(model)),
    }


def read_pairs(tokenizer: Any, path: Path, longest: int) -> tuple[Pairs, int]:
    """Encode a file's rows; leave out and count pairs with a side longer than `longest`.

    Raises:
        DataError: None is left.
    """
    rows = list(iterate_rows(path))
    sources, targets = (
        encode_completions(tokenizer, [row[side] for row in rows]) for side in ("source", "target")
    )
    kept = [pair for pair in zip(sources, targets, strict=True) if max(map(len, pair)) <= longest]
    if not kept:
        raise DataError(
            f"{path} has {len(rows)} pairs of source and target, none of them with at most "
            f"{longest} tokens on each side; wanted at least one: give shorter rows, or raise "
            "max_tokens or the context"
        )
    dropped = len(rows) - len(kept)
    if dropped:
        logger.warning(
            "%d of %d pairs in %s were left out: longer than %d tokens",
            dropped, len(rows), path, longest,
        )  # fmt: skip
    return Pairs(sources=[one for one, _ in kept], targets=[two for _, two in kept]), dropped


def collate_pairs(rows: Sequence[Mapping[str, Any]], *, pad: int, first: int) -> dict[str, Any]:
    """Pad pairs to a batch.

    Args:
        rows: With `input_ids` and `labels`, lists of ids.
        first: The token with which a decoder begins.

    Returns:
        input_ids and attention_mask, (batch, source); decoder_input_ids, the targets one later,
        and labels, (batch, target).
    """
    sources = [torch.tensor(row["input_ids"]) for row in rows]
    labels = [torch.tensor(row["labels"]) for row in rows]
    wanted = pad_sequence(labels, batch_first=True, padding_value=IGNORED_LABEL)
    given = wanted.roll(1, dims=1).masked_fill(wanted.roll(1, dims=1) == IGNORED_LABEL, pad)
    given[:, 0] = first
    return {
        "input_ids": pad_sequence(sources, batch_first=True, padding_value=pad),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in sources], batch_first=True),
        "decoder_input_ids": given,
        "labels": wanted,
    }


class TranslationTrainer(GuardedTrainer):
    """A trainer on padded batches of sources and targets."""

    def __init__(self, *, label_smoothing: float, **settings: Any) -> None:
        """Take rows for `collate_pairs`."""
        super().__init__(**settings)
        self._label_smoothing = label_smoothing
        self.model_accepts_loss_kwargs = True  # the loss below is the whole batch's mean
        self._loss_shifts_labels = False

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Compute the mean loss over the target tokens of the whole batch."""
        rows, length = inputs["input_ids"].shape
        tokens = [length + inputs["labels"].shape[1]] * rows
        parts = list(cut_rows(tokens, self.tokens_per_microbatch))
        return self.accumulate(
            parts,
            lambda rows: (
                target_loss(
                    model, {name: one[rows] for name, one in inputs.items()}, self._label_smoothing
                )
                / num_items_in_batch
            ),
        )


def target_loss(model: Any, batch: Mapping[str, Any], label_smoothing: float) -> torch.Tensor:
    """Sum the loss over the target's tokens, in nats."""
    given = {name: one for name, one in batch.items() if name != "labels"}
    logits = model(**given, use_cache=False).logits.float()
    return cross_entropy(
        logits.flatten(0, 1),
        batch["labels"].flatten(),
        ignore_index=IGNORED_LABEL,
        label_smoothing=label_smoothing,
        reduction="sum",
    )


@torch.no_grad()
def held_out_loss(model: Any, pairs: Pairs, collate: Any, most_tokens: int) -> float:
    """Measure -ln p of held-out targets after their sources, nats per token, EOS included."""
    lengths = pairs.lengths()
    order = sorted(range(len(pairs)), key=lengths.__getitem__)
    was_training = model.training
    model.eval()
    total = 0.0
    for part in cut_rows(sorted(lengths), most_tokens):
        batch = collate(
            [{"input_ids": pairs.sources[row], "labels": pairs.targets[row]} for row in order[part]]
        )
        total += float(
            target_loss(model, {name: one.to(model.device) for name, one in batch.items()}, 0.0)
        )
    model.train(was_training)
    return total / sum(map(len, pairs.targets))


def _begin(
    start: Path,
    tokenizer: Any,
    architecture: ArchitectureConfig | None,
    config: TranslationConfig,
    seed: int,
) -> Any:
    """Build or load the network that learns."""
    weights = derive_seed(seed, "translate.weights")
    if architecture is not None:
        return build_model(architecture, tokenizer, seed=weights)
    model = load_seq2seq_model(start)
    if config.initial == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(weights)
            model = AutoModelForSeq2SeqLM.from_config(
                model.config, dtype=torch.float32, trust_remote_code=False
            )
    return model


class _Rows(Dataset[dict[str, list[int]]]):
    """Pairs in the order of training."""

    def __init__(self, pairs: Pairs, order: list[int]) -> None:
        self._pairs = pairs
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        row = self._order[index]
        return {"input_ids": self._pairs.sources[row], "labels": self._pairs.targets[row]}
