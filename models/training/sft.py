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

import torch
from datasets import Dataset
from trl import SFTConfig

from models.errors import DataError
from models.language.config import Turns
from models.language.examples import Demonstrations, encode_demonstrations
from models.language.folders import load_causal_model, load_tokenizer
from models.language.likelihood import held_out_loss
from models.language.packing import row_layout
from models.randomness import derive_seed
from models.rows import has_messages, read_rows
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
) -> dict[str, float]:
    """Fine-tune a base model on demonstrations and publish its folder.

    Args:
        demonstrations: Rows with `prompt` and `completion` to learn from.
        run: With `config.lora` its `out` gets the merged model, the folder `<out>_adapter` beside
            it the adapter.

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
    rows = read_rows(demonstrations)
    tokenizer = load_tokenizer(base, wants_template=has_messages(rows))
    room = min(config.max_tokens, model.config.max_position_embeddings)
    learned = _encode_file(tokenizer, demonstrations, rows, room, config.turns)
    held_out = _encode_file(tokenizer, heldout, read_rows(heldout), room, "last")

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
        "sft/rows": float(len(learned.prompts)),
        "sft/tokens": float(sum(map(len, trainer.train_dataset["input_ids"]))),
        "sft/dropped_rows": float(learned.dropped),
    }


def _build_trainer(
    model: Any, tokenizer: Any, learned: Demonstrations, config: SFTStageConfig, run: TrainingRun
) -> Any:
    ids = [p + c for p, c in zip(learned.prompts, learned.completions, strict=True)]
    order = training_order(
        [len(row) for row in ids],
        total=rows_to_learn(len(ids), config.epochs),
        batch_size=config.batch_size,
        generator=torch.Generator().manual_seed(derive_seed(run.seed, "sft.order")),
    )
    rows = Dataset.from_dict(
        {
            "input_ids": ids,
            "labels": [
                [token if counts else IGNORED_LABEL for token, counts in zip(*row, strict=True)]
                for row in zip(ids, map(learned.loss_mask, range(len(ids))), strict=True)
            ],
        }
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
        ),
        train_dataset=rows.select(order),
        processing_class=tokenizer,
    )


def _encode_file(
    tokenizer: Any, path: Path, rows: list[dict[str, Any]], max_tokens: int, turns: Turns
) -> Demonstrations:
    """Tokenise a file's rows; warn of dropped ones, raise if nothing is left."""
    encoded = encode_demonstrations(tokenizer, rows, max_tokens, turns)
    if encoded.dropped:
        logger.warning(
            "%d of %d demonstrations in %s were dropped: their completions alone fill %d tokens",
            encoded.dropped, len(rows), path, max_tokens,
        )  # fmt: skip
    if not encoded.prompts:
        raise DataError(
            f"{path} has {len(rows)} demonstrations, {encoded.dropped} of them with completions "
            f"longer than {max_tokens} tokens; wanted at least one that fits: give shorter "
            "completions or raise sft.max_tokens or the context"
        )
    return encoded
