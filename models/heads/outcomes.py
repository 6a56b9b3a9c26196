"""A head's outputs as predictions and losses, and rows as batches.

Legend: sequences = of all rows of a batch together; rows <= sequences; outputs = classes, or 1.

Classification and choice have the cross-entropy of the right class or option; regression the
squared error of a standardised score (training labels have mean 0 and standard deviation 1), which
a fresh head is near to at the start. With an auxiliary loss a row's is

    loss + lambda * mean over the tokens of its sequences of -ln p(token | those before)

Source: Radford et al., Improving Language Understanding by Generative Pre-Training (2018),
equations 4 and 5; there sums over a dataset, here means, so that lambda does not depend on length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from models.families.config import Kind
from models.heads.formats import LaidOut, TaskKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How scores are standardised; classes and options stay as they are."""

    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def of(cls, labels: Sequence[float], kind: TaskKind) -> "Scale":
        """Take the mean and standard deviation of the training rows' scores."""
        if kind != "regression":
            return cls()
        found = torch.tensor(labels, dtype=torch.float64)
        return cls(mean=float(found.mean()), std=float(found.std(correction=0)) or 1.0)

    def shrink(self, label: float) -> float:
        """Give a score as the loss takes it."""
        return (label - self.mean) / self.std

    def restore(self, output: float) -> float:
        """Give an output as a score."""
        return self.mean + self.std * output


def collate(
    rows: Sequence[LaidOut],
    *,
    labels: Sequence[float],
    kind: Kind,
    pad: int,
    of: int | None = None,
) -> dict[str, torch.Tensor]:
    """Lay out rows as one padded batch.

    Args:
        labels: As the loss takes them; NaN for a row that counts for nothing.
        pad: The pad token.
        of: Rows of the whole batch, if these are some of it.

    Returns:
        input_ids and attention_mask, (sequences, seq); for masked models token_type_ids too;
        row and place (the number of a sequence's row, and its own within it), (sequences,); label
        and weight (1 / rows of the whole batch), (rows,).
    """
    ids = [torch.tensor(one) for row in rows for one in row.sequences]
    batch = {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad),
        "attention_mask": pad_sequence([torch.ones_like(one) for one in ids], batch_first=True),
    }
    if kind == "masked":
        types = [torch.tensor(one) for row in rows for one in row.types]
        batch["token_type_ids"] = pad_sequence(types, batch_first=True)
    places = [(at, place) for at, row in enumerate(rows) for place in range(len(row.sequences))]
    label = torch.tensor(list(labels), dtype=torch.float32)
    return {
        **batch,
        "row": torch.tensor([at for at, _ in places]),
        "place": torch.tensor([place for _, place in places]),
        "label": label.nan_to_num(),
        "weight": torch.where(label.isnan(), 0.0, 1.0 / (of or len(rows))),
    }


def part_of(batch: dict[str, torch.Tensor], rows: slice) -> dict[str, torch.Tensor]:
    """Take some rows of a batch, without padding that they do not need."""
    chosen = (batch["row"] >= rows.start) & (batch["row"] < rows.stop)
    longest = int(batch["attention_mask"][chosen].sum(1).max())
    part = {
        name: tensor[chosen][:, :longest]
        for name, tensor in batch.items()
        if name in ("input_ids", "attention_mask", "token_type_ids")
    }
    return {
        **part,
        "row": batch["row"][chosen] - rows.start,
        "place": batch["place"][chosen],
        "label": batch["label"][rows],
        "weight": batch["weight"][rows],
    }


def row_tokens(batch: dict[str, torch.Tensor]) -> list[int]:
    """Count the tokens of each row's sequences."""
    lengths = batch["attention_mask"].sum(1)
    counts = lengths.new_zeros(len(batch["label"])).index_add(0, batch["row"], lengths)
    return list(map(int, counts.tolist()))


def read_head(
    model: Any,
    batch: dict[str, torch.Tensor],
    kind: TaskKind,
    language_head: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Run a classifier on a batch.

    Args:
        language_head: To compute the auxiliary loss with; of causal models.

    Returns:
        The head's outputs by row, (rows, classes), (rows, most options) or (rows, 1), float32; and
        the mean negative log-likelihood of each row's tokens but the first, (rows,), if wanted.
    """
    given = ("input_ids", "attention_mask", "token_type_ids")
    found = model(
        **{name: batch[name] for name in given if name in batch},
        use_cache=False,
        **({"output_hidden_states": True} if language_head else {}),
    )
    outputs = by_row(found.logits.float(), batch["row"], batch["place"], kind)
    if language_head is None:
        return outputs, None
    return outputs, _token_losses(language_head(found.hidden_states[-1][:, :-1]), batch)


def by_row(
    outputs: torch.Tensor, row: torch.Tensor, place: torch.Tensor, kind: TaskKind
) -> torch.Tensor:
    """Bring the outputs of sequences together by row.

    Args:
        outputs: (sequences, outputs).
        row: Of each sequence, (sequences,), ascending; so is `place`, its number within the row.

    Returns:
        classification: (rows, classes), as they are; regression: (rows, 1), the sum over both
        orders; choice: (rows, most options), -inf where a row has fewer.
    """
    rows = int(row[-1]) + 1
    if kind == "classification":
        return outputs
    if kind == "regression":
        return outputs.new_zeros(rows, 1).index_add(0, row, outputs)
    table = outputs.new_full((rows, int(place.max()) + 1), float("-inf"))
    return table.index_put((row, place), outputs[:, 0])


def row_losses(outputs: torch.Tensor, label: torch.Tensor, kind: TaskKind) -> torch.Tensor:
    """Compute each row's loss, (rows,): cross-entropy, or the squared error of the score.

    Args:
        outputs: Of `by_row`.
        label: Class or option, or a standardised score, (rows,) float32.
    """
    if kind == "regression":
        return (outputs[:, 0] - label) ** 2
    return cross_entropy(outputs, label.long(), reduction="none")


def _token_losses(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean over a row's predicted tokens of -ln p; logits are (sequences, seq - 1, vocab)."""
    counted = batch["attention_mask"][:, 1:].bool()
    found = cross_entropy(
        logits[counted].float(), batch["input_ids"][:, 1:][counted], reduction="none"
    )
    row = batch["row"][:, None].expand(counted.shape)[counted]
    zeros = found.new_zeros(len(batch["label"]))
    return zeros.index_add(0, row, found) / zeros.index_add(0, row, torch.ones_like(found))
