"""Supervised fine-tuning: the base model learns to answer, from demonstrations.

Reads a base model and rows of prompt and completion; publishes the SFT model, from which PPO's
actor and reference start. TRL's SFTTrainer does the learning, on rows that are tokenised here:
prompt and completion apart, as at generation, with the loss on the completion and its EOS only, and
in a conversation on the assistant's earlier turns as well (`models.language.examples`).

What differs from the usual: the loss's mask comes from the encoding itself, not from the text of a
rendered conversation, so it is exact with every chat template. The held-out loss is of the last
turns only, whatever is learned from: of what the model will be asked for.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from trl import SFTConfig

from models.errors import DataError
from models.language.config import Turns
from models.language.encoded_rows import EncodedRows, encode_rows, token_type
from models.language.examples import Demonstrations, encode_demonstrations
from models.language.folders import load_causal_model, load_tokenizer
from models.language.likelihood import held_out_loss
from models.language.packing import row_layout
from models.randomness import derive_seed
from models.rows import Row, first_rows, has_messages, held_out_rows
from models.runtime import TrainingRun, weights_dtype
from models.training.adapters import add_adapter, publish
from models.training.config import SFTStageConfig
from models.training.order import rows_to_learn, training_order
from models.training.packed_trainers import PackedSFTTrainer
from models.training.setup import IGNORED_LABEL, train, trainer_settings

logger = logging.getLogger(__name__)


def finetune(
    *,
    base: Path,
    demonstrations: Path,
    heldout: Path,
    config: SFTStageConfig,
    run: TrainingRun,
    cache: Path | None = None,
) -> dict[str, float]:
    """Fine-tune a base model on demonstrations and publish its folder.

    Args:
        demonstrations: Rows with `prompt` and `completion` to learn from.
        run: With `config.lora` its `out` gets the merged model, the folder `<out>_adapter` beside
            it the adapter.
        cache: Folder for the demonstrations as tokens, named after the file's contents; without
            one they are kept with the checkpoints.

    Returns:
        Final metrics: held-out loss and perplexity of completions, rows used and dropped,
        tokens learned from in all epochs.

    Raises:
        ModelError: The base folder is not a complete causal language model.
        DataError: No row is left to learn from or to measure on.
        DivergedError: The loss is not finite.
    """
    model = load_causal_model(
        base, weights_dtype(run.device, config.precision, learns=config.lora is None)
    )
    tokenizer = load_tokenizer(base, wants_template=has_messages(first_rows(demonstrations)))
    room = min(config.max_tokens, model.config.max_position_embeddings)
    learned = _encode_rows(tokenizer, demonstrations, room, config.turns, cache or run.checkpoints)
    held_out = encode_demonstrations(tokenizer, held_out_rows(heldout), room, "last")
    _warn_of_dropped(heldout, len(held_out.prompts), held_out.dropped, room)

    def measure(model: Any) -> Mapping[str, float]:
        loss = held_out_loss(
            model, held_out.prompts, held_out.completions, config.tokens_per_microbatch
        )
        return {
            "sft/heldout_loss": loss.mean,
            "sft/heldout_perplexity": loss.perplexity,
        }

    if config.lora:
        add_adapter(model, config.lora, seed=derive_seed(run.seed, "sft.lora"))
    trainer = _build_trainer(model, tokenizer, learned, config, run)
    train(trainer, run, stage="sft", measure=measure)
    measured = measure(model)
    run.log(measured, trainer.state.global_step)
    publish(model, tokenizer, run.out, base=base, load=load_causal_model)
    return {
        **measured,
        "sft/rows": float(len(learned.rows)),
        "sft/tokens": float(sum(trainer.train_dataset.with_format(None)["tokens"][:])),
        "sft/dropped_rows": float(learned.counts["dropped"]),
    }


def _build_trainer(
    model: Any, tokenizer: Any, learned: EncodedRows, config: SFTStageConfig, run: TrainingRun
) -> Any:
    lengths = learned.numbers("tokens")
    order = training_order(
        lengths,
        total=rows_to_learn(len(lengths), config.epochs),
        batch_size=config.batch_size,
        generator=torch.Generator().manual_seed(derive_seed(run.seed, "sft.order")),
    )
    steps = -(-len(order) // config.batch_size)
    settings = trainer_settings(config, run, stage="sft", steps=steps)
    return PackedSFTTrainer(
        model=model,
        config=config,
        args=SFTConfig(
            **settings,
            completion_only_loss=True,
            max_length=None,  # rows fit already
            # One row alone has no padding, and TRL warns there.
            padding_free=config.batch_size > 1 and row_layout(model) == "packed",
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
        ),
        train_dataset=learned.rows.select(order).with_transform(_with_labels),
        processing_class=tokenizer,
    )


def as_columns(rows: Demonstrations) -> dict[str, list[Any]]:
    """Arrange rows as columns: their tokens, which of them count in the loss, and how many."""
    ids = [p + c for p, c in zip(rows.prompts, rows.completions, strict=True)]
    return {
        "input_ids": ids,
        "counts": list(map(rows.loss_mask, range(len(ids)))),
        "tokens": list(map(len, ids)),
    }


def _with_labels(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    labels = [
        [token if counts else IGNORED_LABEL for token, counts in zip(*row, strict=True)]
        for row in zip(rows["input_ids"], rows["counts"], strict=True)
    ]
    return {"input_ids": rows["input_ids"], "labels": labels}


def _encode_rows(
    tokenizer: Any, path: Path, max_tokens: int, turns: Turns, cache: Path
) -> EncodedRows:
    """Tokenise a file's rows; warn of dropped ones, raise if nothing is left."""

    def encode(rows: list[Row]) -> tuple[Mapping[str, list[Any]], dict[str, int]]:
        found = encode_demonstrations(tokenizer, rows, max_tokens, turns)
        return as_columns(found), {"dropped": found.dropped}

    types = {
        "input_ids": token_type(tokenizer), "counts": pa.list_(pa.bool_()), "tokens": pa.int32()
    }  # fmt: skip
    settings = {"max_tokens": max_tokens, "turns": turns}
    learned = encode_rows(path, encode, types, tokenizer=tokenizer, settings=settings, cache=cache)
    _warn_of_dropped(path, len(learned.rows), learned.counts["dropped"], max_tokens)
    return learned


def _warn_of_dropped(path: Path, kept: int, dropped: int, max_tokens: int) -> None:
    if not kept:
        raise DataError(
            f"{path} has {dropped} demonstrations, {dropped} of them with completions "
            f"longer than {max_tokens} tokens; wanted at least one that fits: give shorter "
            "completions or raise sft.max_tokens or the context"
        )
    if dropped:
        logger.warning(
            "%d of %d demonstrations in %s were dropped: their completions alone fill %d tokens",
            dropped, kept + dropped, path, max_tokens,
        )  # fmt: skip
