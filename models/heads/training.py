"""Fine-tuning for understanding: a head on a pretrained trunk learns classes, a score or a choice.

Reads a pretrained model and rows of `texts` and `label`; publishes the classifier, what it predicts
of held-out rows and, for scores, how they were standardised. The control is the same network from
fresh weights; baselines are the most frequent label and a bag of words.

The mean over a batch's rows is learned from, whatever the micro-batches are. Rows of like length
stand together, so that little is padded.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import TrainingArguments

from models.distributed.team import current_team
from models.errors import DataError
from models.families.networks import parameter_count
from models.heads.baseline import bag_of_words_accuracy
from models.heads.config import HeadConfig
from models.heads.formats import LaidOut, Task, lay_out_rows, special_tokens
from models.heads.measures import Predictions, majority_accuracy, measure
from models.heads.networks import HeadNetwork, new_network
from models.heads.outcomes import Scale, collate, part_of, read_head, row_losses, row_tokens
from models.language.folders import load_tokenizer, save_model
from models.language.likelihood import HELD_OUT_TOKENS
from models.language.packing import cut_rows
from models.randomness import derive_seed
from models.rows import read_rows, write_json, write_rows
from models.runtime import TrainingRun
from models.training.order import rows_to_learn, training_order
from models.training.setup import GuardedTrainer, train, trainer_settings

MODEL, TASK, PREDICTIONS = "model", "task.json", "predictions.jsonl"
"""In a published folder."""


def learn_to_understand(
    *,
    base: Path,
    learned: Path,
    heldout: Path,
    task: Task,
    config: HeadConfig,
    run: TrainingRun,
) -> dict[str, float]:
    """Fine-tune a pretrained model with a head and publish `model/`, its task and predictions.

    Args:
        base: Folder of a causal language model, BertForPreTraining or BartForConditionalGeneration.
        learned: Rows with `texts` and `label` to learn from; so is `heldout`, to measure on.

    Returns:
        Final metrics: accuracy or correlation with its 95% interval, the baselines', held-out loss,
        rows used and shortened, parameters that learn.

    Raises:
        ModelError: The base folder is not complete, or of a family without a classifier.
        ParameterError: An auxiliary loss is wanted of a family that has none.
        DataError: No row is there to learn from or to measure on, or a label is out of range.
        DivergedError: The loss is not finite.
    """
    rows = {path: _read(path) for path in (learned, heldout)}
    tokenizer = load_tokenizer(base)
    network = new_network(
        base,
        task,
        config,
        pad=tokenizer.pad_token_id,
        seed=derive_seed(run.seed, "understand"),
        device=run.device,
    )
    laid_out = {
        path: lay_out_rows(
            tokenizer,
            some,
            task=task,
            special=special_tokens(tokenizer, network.kind),
            max_tokens=min(config.max_tokens, network.model.config.max_position_embeddings),
        )
        for path, some in rows.items()
    }
    scale = Scale.of([row.label for row in laid_out[learned]], task.kind)
    labels = [row.label for row in laid_out[heldout]]

    def measure_heldout(_model: Any) -> Mapping[str, float]:
        found = predict(network, laid_out[heldout], task, scale, config)
        return measure(found, labels, task)

    trainer = _build_trainer(network, laid_out[learned], task, scale, config, run)
    train(trainer, run, stage="understand", measure=measure_heldout)
    predictions = predict(network, laid_out[heldout], task, scale, config)
    measured = measure(predictions, labels, task)
    run.log(measured, trainer.state.global_step)
    save_model(network.model, tokenizer, run.out / MODEL)
    if current_team().leads:
        write_json(run.out / TASK, {"task": task, "trunk": network.kind, "scale": scale})
        write_rows(run.out / PREDICTIONS, predictions.rows(rows[heldout]))
    learning = sum(one.numel() for one in network.model.parameters() if one.requires_grad)
    return {
        **measured,
        **_baselines(rows[learned], rows[heldout], task),
        "understand/rows": float(len(rows[learned])),
        "understand/heldout_rows": float(len(labels)),
        "understand/cut_rows": float(sum(row.cut for some in laid_out.values() for row in some)),
        "understand/parameters": float(parameter_count(network.model)),
        "understand/learning_parameters": float(learning),
    }


class HeadTrainer(GuardedTrainer):
    """A trainer on rows of one or several sequences each."""

    def __init__(
        self, *, network: HeadNetwork, task: Task, scale: Scale, config: HeadConfig, **settings: Any
    ) -> None:
        """Take rows of `LaidOut`."""
        self._network, self._task, self._scale = network, task, scale
        self._auxiliary = config.auxiliary_weight
        super().__init__(
            model=network.model, config=config, data_collator=self._collate, **settings
        )

    def collate(self, rows: list[Any], of: int) -> dict[str, torch.Tensor]:
        """Lay out some rows of a batch of `of`."""
        network, labels = self._network, [self._scale.shrink(row.label) for row in rows]
        return collate(rows, labels=labels, kind=network.kind, pad=network.pad, of=of)

    def without_effect(self, row: Any) -> Any:
        """Make a row that can be computed and counts for nothing."""
        return replace(row, label=math.nan)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Compute the mean over the batch's rows, each with its share of the auxiliary loss."""
        head = self._network.language_head if self._auxiliary else None

        def compute_share(rows: slice) -> torch.Tensor:
            part = part_of(inputs, rows)
            outputs, token_losses = read_head(model, part, self._task.kind, head)
            losses = row_losses(outputs, part["label"], self._task.kind)
            if token_losses is not None:
                losses = losses + self._auxiliary * token_losses
            return torch.sum(part["weight"] * losses)

        cuts = list(cut_rows(row_tokens(inputs), self.tokens_per_microbatch))
        return self.accumulate(cuts, compute_share)

    def _collate(self, rows: list[Any]) -> dict[str, torch.Tensor]:
        return self.collate(rows, len(rows))


@torch.no_grad()
def predict(
    network: HeadNetwork, rows: Sequence[LaidOut], task: Task, scale: Scale, config: HeadConfig
) -> Predictions:
    """Predict rows, those of like length together."""
    model = network.model
    was_training = model.training
    model.eval()
    tokens = [sum(map(len, row.sequences)) for row in rows]
    order = sorted(range(len(rows)), key=tokens.__getitem__)
    found: dict[int, tuple[list[float], float]] = {}
    most = min(HELD_OUT_TOKENS, config.tokens_per_microbatch)
    for cut in cut_rows([tokens[row] for row in order], most):
        numbers = order[cut]
        labels = [scale.shrink(rows[row].label) for row in numbers]
        batch = collate(
            [rows[row] for row in numbers], labels=labels, kind=network.kind, pad=network.pad
        )
        batch = {name: one.to(model.device) for name, one in batch.items()}
        outputs, _ = read_head(model, batch, task.kind)
        losses = row_losses(outputs, batch["label"], task.kind).tolist()
        shown = outputs if task.kind == "regression" else outputs.softmax(-1)
        found |= dict(zip(numbers, zip(shown.tolist(), losses, strict=True), strict=True))
    model.train(was_training)
    values = [found[row][0] for row in range(len(rows))]
    losses = [found[row][1] for row in range(len(rows))]
    if task.kind == "regression":
        scores = [scale.restore(one[0]) for one in values]
        return Predictions(values=scores, probabilities=[], losses=losses)
    options = [len(row.sequences) if task.kind == "choice" else task.outputs for row in rows]
    probabilities = [one[:most] for one, most in zip(values, options, strict=True)]
    chosen = [float(one.index(max(one))) for one in probabilities]
    return Predictions(values=chosen, probabilities=probabilities, losses=losses)


class _Rows(Dataset[LaidOut]):
    """Rows in the order of training."""

    def __init__(self, rows: Sequence[LaidOut], order: list[int]) -> None:
        self._rows = rows
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> LaidOut:
        return self._rows[self._order[index]]


def _build_trainer(
    network: HeadNetwork,
    rows: Sequence[LaidOut],
    task: Task,
    scale: Scale,
    config: HeadConfig,
    run: TrainingRun,
) -> HeadTrainer:
    order = training_order(
        [max(map(len, row.sequences)) for row in rows],
        total=rows_to_learn(len(rows), config.epochs),
        batch_size=config.batch_size,
        generator=torch.Generator().manual_seed(derive_seed(run.seed, "understand.order")),
    )
    steps = -(-len(order) // config.batch_size)
    settings = trainer_settings(config, run, stage="understand", steps=steps)
    return HeadTrainer(
        network=network,
        task=task,
        scale=scale,
        config=config,
        args=TrainingArguments(**settings, remove_unused_columns=False),
        train_dataset=_Rows(rows, order),
    )


def _read(path: Path) -> list[dict[str, Any]]:
    rows = read_rows(path)
    if not rows:
        raise DataError(
            f"{path} holds no rows, wanted at least one with texts and a label; give more data"
        )
    return rows


def _baselines(
    learned: list[dict[str, Any]], heldout: list[dict[str, Any]], task: Task
) -> dict[str, float]:
    """Accuracies that need no network; of scores none: a constant has no correlation."""
    if task.kind == "regression":
        return {}
    sides = [[row["label"] for row in rows] for rows in (learned, heldout)]
    found = {"understand/majority": majority_accuracy(*sides)}
    if task.kind == "classification":
        found["understand/baseline"] = bag_of_words_accuracy(learned, heldout)
    return found
