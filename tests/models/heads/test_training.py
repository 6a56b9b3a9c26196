"""Fine-tuning of heads: what is learned, what is published, and resuming to the same bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.errors import DataError
from models.heads.formats import lay_out_rows, special_tokens
from models.heads.networks import load_classifier
from models.heads.outcomes import collate, read_head
from models.rows import read_json, read_rows
from models.training.setup import GuardedTrainer
from tests.models.heads.conftest import CHOICE, ENTAILMENT, PAD, SIMILARITY, pairs

Understand = Callable[..., tuple[dict[str, float], Path]]

CHOICES = [
    {"texts": [f"a {one} {two}", other, two], "label": 1}
    if at % 2
    else {"texts": [f"a {one} {two}", two, other], "label": 0}
    for at, (one, two, other) in enumerate(
        [(c, a, b) for c in ("red", "blue", "sat") for a in ("cat", "dog") for b in ("bird", "red")]
    )
]


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "bart"])
def test_every_family_learns_a_classification_and_is_published_whole(
    understand: Understand, words: Any, family: str
) -> None:
    rows = pairs()
    metrics, folder = understand(family, ENTAILMENT, rows, epochs=15.0)
    assert metrics["understand/accuracy"] > 0.6
    assert metrics["understand/majority"] == 12 / 27
    assert metrics["understand/rows"] == 27.0
    assert metrics["understand/cut_rows"] == 0.0
    record = read_json(folder / "task.json")
    assert record["task"]["labels"] == list(ENTAILMENT.labels)
    model = load_classifier(folder / "model")
    assert model.config.id2label == dict(enumerate(ENTAILMENT.labels))
    kind = record["trunk"]
    laid_out = lay_out_rows(
        words, rows, task=ENTAILMENT, special=special_tokens(words, kind), max_tokens=24
    )
    batch = collate(laid_out, labels=[0.0] * 27, kind=kind, pad=PAD)
    outputs, _ = read_head(model, batch, "classification")
    predictions = read_rows(folder / "predictions.jsonl")
    assert [one["texts"] for one in predictions] == [row["texts"] for row in rows]
    found = [one["probabilities"] for one in predictions]
    assert torch.tensor(found) == pytest.approx(outputs.detach().softmax(-1), abs=1e-5)
    assert [one["prediction"] for one in predictions] == outputs.argmax(-1).tolist()


def test_similarity_is_learned_on_its_own_scale(understand: Understand) -> None:
    # From 1 to 5, by how many of both texts have the bird: no order tells more than the other.
    rows = [{**row, "label": 1.0 + 2.0 * str(row["texts"]).count("bird")} for row in pairs()]
    metrics, folder = understand("bert", SIMILARITY, rows, epochs=12.0)
    assert metrics["understand/correlation"] > 0.9
    assert metrics["understand/correlation_low"] < metrics["understand/correlation"]
    assert "understand/majority" not in metrics
    errors = [
        abs(one["prediction"] - one["label"]) for one in read_rows(folder / "predictions.jsonl")
    ]
    assert sum(errors) / len(errors) < 0.7


def test_choice_is_learned_over_any_number_of_options(understand: Understand) -> None:
    rows = [*CHOICES, {"texts": ["a red cat", "bird", "dog", "cat"], "label": 2}]
    metrics, folder = understand("gpt2", CHOICE, rows, epochs=20.0)
    assert metrics["understand/accuracy"] >= 0.9
    assert "understand/baseline" not in metrics
    options = [len(one["probabilities"]) for one in read_rows(folder / "predictions.jsonl")]
    assert options == [2] * 12 + [3]


def test_micro_batches_change_nothing_but_rounding(understand: Understand) -> None:
    whole, _ = understand("gpt2", ENTAILMENT, pairs(), name="whole", auxiliary_weight=0.5)
    cut, _ = understand(
        "gpt2", ENTAILMENT, pairs(), name="cut", auxiliary_weight=0.5, tokens_per_microbatch=20
    )
    assert cut["understand/heldout_loss"] == pytest.approx(
        whole["understand/heldout_loss"], abs=1e-4
    )


def test_frozen_trunk_stays_as_it_was_pretrained(
    understand: Understand, trunk: Callable[[str], Path]
) -> None:
    metrics, folder = understand("bert", ENTAILMENT, pairs(), trunk="frozen")
    before = load_file(trunk("bert") / "model.safetensors")
    after = load_file(folder / "model" / "model.safetensors")
    trunk_names = [name for name in after if name.startswith("bert.")]
    assert trunk_names
    assert all(torch.equal(after[name], before[name]) for name in trunk_names)
    assert metrics["understand/learning_parameters"] == 16 * 3 + 3


class Died(RuntimeError):
    """Strikes in the middle of a step."""


@pytest.mark.parametrize(
    ("family", "fields"),
    [("gpt2", {"auxiliary_weight": 0.5}), ("bart", {"trunk": "frozen"})],
    ids=["auxiliary loss", "frozen trunk"],
)
def test_training_that_died_resumes_to_the_same_bytes(
    understand: Understand, monkeypatch: pytest.MonkeyPatch, family: str, fields: dict[str, Any]
) -> None:
    expected, whole = understand(family, ENTAILMENT, pairs(), name="whole", **fields)
    original, steps = GuardedTrainer.training_step, iter(range(100))

    def dying(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        if next(steps) == 6:  # checkpoints are at 4, 8 and 11
            raise Died
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(GuardedTrainer, "training_step", dying)
        with pytest.raises(Died):
            understand(family, ENTAILMENT, pairs(), name="again", **fields)
    metrics, again = understand(family, ENTAILMENT, pairs(), name="again", **fields)
    assert metrics == expected
    names = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert [path.name for path in names].count("model.safetensors") == 1
    for name in names:
        assert (again / name).read_bytes() == (whole / name).read_bytes(), name


def test_no_rows_are_refused(understand: Understand) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        understand("gpt2", ENTAILMENT, [])
