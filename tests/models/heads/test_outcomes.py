"""Losses of a batch against a loop over its sequences, one at a time, without padding, float64."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.heads.config import HeadConfig
from models.heads.formats import LaidOut, Task, lay_out_rows, special_tokens
from models.heads.networks import HeadNetwork, new_network
from models.heads.outcomes import (
    Scale,
    by_row,
    collate,
    part_of,
    read_head,
    row_losses,
    row_tokens,
)
from tests.models.heads.conftest import CHOICE, ENTAILMENT, PAD, SIMILARITY

ROWS: dict[str, list[dict[str, Any]]] = {
    "entailment": [
        {"texts": ["a red cat sat", "cat"], "label": 1},
        {"texts": ["dog", "a bird"], "label": 2},
        {"texts": ["blue", "a red bird sat"], "label": 0},
    ],
    "similarity": [
        {"texts": ["a red cat sat", "cat"], "label": 4.5},
        {"texts": ["dog", "a bird"], "label": 1.0},
        {"texts": ["blue", "a red bird sat"], "label": 2.0},
    ],
    "choice": [
        {"texts": ["a red", "cat", "dog sat", "bird"], "label": 2},
        {"texts": ["dog", "sat", "a bird"], "label": 0},
        {"texts": ["blue", "a red bird sat", "cat"], "label": 1},
    ],
}


def prepare(
    trunk: Callable[[str], Path], words: Any, family: str, task: Task
) -> tuple[HeadNetwork, list[LaidOut]]:
    network = new_network(trunk(family), task, HeadConfig(), pad=PAD, seed=1, device="cpu")
    with torch.no_grad():  # a head so large that a mistake moves the numbers
        for one in network.model.parameters():
            one.mul_(2.0)
    special = special_tokens(words, network.kind)
    rows = ROWS[task.name]
    return network, lay_out_rows(words, rows, task=task, special=special, max_tokens=24)


def outputs_alone(network: HeadNetwork, row: LaidOut) -> torch.Tensor:
    """Of each sequence of a row, (sequences, outputs) float64."""
    found = []
    for ids, types in zip(row.sequences, row.types, strict=True):
        given = {"token_type_ids": torch.tensor([types])} if network.kind == "masked" else {}
        found.append(network.model(input_ids=torch.tensor([ids]), **given).logits[0].double())
    return torch.stack(found)


def loss_alone(outputs: torch.Tensor, label: float, task: Task) -> float:
    if task.kind == "regression":
        return (outputs.sum().item() - label) ** 2
    values = (outputs[:, 0] if task.kind == "choice" else outputs[0]).tolist()
    return math.log(sum(map(math.exp, values))) - values[int(label)]


@pytest.mark.parametrize("task", [ENTAILMENT, SIMILARITY, CHOICE], ids=lambda task: task.name)
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "bart"])
def test_losses_of_a_batch_are_those_of_its_rows_alone(
    trunk: Callable[[str], Path], words: Any, family: str, task: Task
) -> None:
    network, rows = prepare(trunk, words, family, task)
    expected = [loss_alone(outputs_alone(network, row), row.label, task) for row in rows]
    labels = [row.label for row in rows]
    batch = collate(rows, labels=labels, kind=network.kind, pad=PAD)
    outputs, _ = read_head(network.model, batch, task.kind)
    # float32 sums of at most a hundred terms
    assert row_losses(outputs, batch["label"], task.kind).tolist() == pytest.approx(
        expected, rel=1e-4, abs=1e-4
    )
    part = part_of(batch, slice(1, 3))
    outputs, _ = read_head(network.model, part, task.kind)
    assert row_losses(outputs, part["label"], task.kind).tolist() == pytest.approx(
        expected[1:], rel=1e-4, abs=1e-4
    )


def test_auxiliary_loss_is_the_mean_over_the_predicted_tokens_of_a_row(
    trunk: Callable[[str], Path], words: Any
) -> None:
    network, rows = prepare(trunk, words, "gpt2", CHOICE)
    batch = collate(rows, labels=[0.0] * 3, kind="causal", pad=PAD)
    _, found = read_head(network.model, batch, "choice", network.language_head)
    assert found is not None
    expected = []
    for row in rows:
        losses: list[float] = []
        for ids in row.sequences:
            hidden = network.model.transformer(torch.tensor([ids])).last_hidden_state[0]
            logits = hidden.double() @ network.model.transformer.wte.weight.double().T
            log_probabilities = logits.log_softmax(-1)
            losses += [-log_probabilities[at, ids[at + 1]].item() for at in range(len(ids) - 1)]
        expected.append(sum(losses) / len(losses))
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_outputs_come_together_by_row() -> None:
    row, place = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 1, 0, 1, 2])
    outputs = torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]])
    assert by_row(outputs, row, place, "regression").tolist() == [[3.0], [12.0]]
    table = by_row(outputs, row, place, "choice").tolist()
    assert table == [[1.0, 2.0, -math.inf], [3.0, 4.0, 5.0]]


def test_batch_weighs_rows_of_the_whole_batch_and_knows_their_tokens(words: Any) -> None:
    rows = [
        LaidOut(sequences=[[1, 5, 1], [1, 5, 6, 1]], types=[], label=1.0, cut=False),
        LaidOut(sequences=[[1, 1]], types=[], label=math.nan, cut=False),
    ]
    batch = collate(rows, labels=[1.0, math.nan], kind="causal", pad=PAD, of=4)
    assert batch["weight"].tolist() == [0.25, 0.0]
    assert batch["label"].tolist() == [1.0, 0.0]
    assert batch["input_ids"].tolist() == [[1, 5, 1, PAD], [1, 5, 6, 1], [1, 1, PAD, PAD]]
    assert batch["attention_mask"].sum(1).tolist() == [3, 4, 2]
    assert row_tokens(batch) == [7, 2]
    assert part_of(batch, slice(1, 2))["input_ids"].tolist() == [[1, 1]]


def test_scores_are_standardised_by_the_training_rows() -> None:
    scale = Scale.of([1.0, 3.0, 5.0], "regression")  # variance (4 + 0 + 4) / 3
    assert (scale.mean, scale.std) == (3.0, pytest.approx(math.sqrt(8 / 3)))
    assert scale.restore(scale.shrink(4.5)) == pytest.approx(4.5)
    assert Scale.of([2.0, 2.0], "regression").shrink(2.0) == 0.0
    assert Scale.of([0.0, 2.0], "choice") == Scale()
