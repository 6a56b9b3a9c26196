"""Pretraining of BERT: masked language modelling and next-sentence prediction, from random weights.

The loss is the mean over the chosen tokens of a batch plus the mean over its pairs. Held-out
accuracies stand beside what always answering the corpus's most frequent token, and the more
frequent of the two labels, would have reached.

What differs from the paper: no dropout, and the recipe of pretraining (AdamW 0.9/0.95, cosine).

Source: Devlin et al., BERT (2019), section 3.1 and appendix A.2.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from models.families.config import ArchitectureConfig
from models.objectives.batches import Batch, Row, mask_of, pad_rows, to_device
from models.objectives.documents import Pieces
from models.objectives.masking import IGNORED, MaskTokens, mask_tokens
from models.objectives.next_sentence import (
    ADDED_TOKENS,
    IS_NEXT,
    LEAST_WORDS,
    draw_pair,
    lay_out_pair,
)
from models.runtime import TrainingRun
from models.training.config import PretrainConfig
from models.training.reconstruction import Objective, pretrain_reconstruction

ANSWERS = 5
"""Most probable tokens that a sample shows."""


def pretrain_masked(
    *,
    tokenizer: Path,
    corpus: Path,
    heldout: Path,
    architecture: ArchitectureConfig,
    config: PretrainConfig,
    run: TrainingRun,
) -> dict[str, float]:
    """Pretrain BERT; see `pretrain_reconstruction`."""
    return pretrain_reconstruction(
        MaskedLanguageModelling,
        tokenizer=tokenizer,
        corpus=corpus,
        heldout=heldout,
        architecture=architecture,
        config=config,
        run=run,
    )


class MaskedLanguageModelling(Objective):
    """Hidden tokens, and whether the second segment follows the first."""

    special = ("mask", "cls", "sep")
    added_tokens = ADDED_TOKENS
    least_words = LEAST_WORDS

    def __init__(self, encoder: Any, config: PretrainConfig) -> None:
        super().__init__(encoder, config)
        self._tokens = MaskTokens.of(encoder)

    def make_row(self, pieces: Pieces, number: int, generator: torch.Generator) -> Row:
        """Pair a piece with its own end or another's, and mask the row."""
        pair = draw_pair(pieces, number, self.room, generator)
        row = lay_out_pair(self.encoder, pair)
        masked = mask_tokens(row.input_ids, row.words, self._tokens, self.config.masking, generator)
        return {
            "input_ids": masked.input_ids,
            "token_type_ids": row.token_type_ids,
            "labels": masked.labels,
            "next_sentence_label": [pair.label],
        }

    def collate(self, rows: Sequence[Row], of: int | None = None) -> Batch:
        """Pad rows.

        Returns:
            input_ids, attention_mask, token_type_ids, labels, (rows, seq); next_sentence_label and
            next_sentence_weight, (rows,).
        """
        return {
            "input_ids": pad_rows(rows, "input_ids", self.encoder.pad_token_id),
            "attention_mask": mask_of(rows, "input_ids"),
            "token_type_ids": pad_rows(rows, "token_type_ids", 0),
            "labels": pad_rows(rows, "labels", IGNORED),
            "next_sentence_label": torch.tensor([row["next_sentence_label"][0] for row in rows]),
            "next_sentence_weight": torch.full((len(rows),), 1 / (of or len(rows))),
        }

    def without_effect(self, row: Row) -> Row:
        """Make a row without labels."""
        ignored = [IGNORED] * len(row["labels"])
        return {**row, "labels": ignored, "next_sentence_label": [IGNORED]}

    def loss(self, model: Any, batch: Batch, targets: torch.Tensor) -> torch.Tensor:
        """Compute these rows' share of the mean over chosen tokens plus the mean over pairs."""
        logits, next_logits = predict(model, batch)
        chosen = batch["labels"][batch["labels"] != IGNORED]
        masked_loss = cross_entropy(logits.float(), chosen, reduction="sum") / targets
        next_losses = cross_entropy(
            next_logits.float(), batch["next_sentence_label"], reduction="none"
        )
        return masked_loss + (next_losses * batch["next_sentence_weight"]).sum()

    def sums(self, model: Any, batch: Batch, unigram: torch.Tensor) -> Mapping[str, float]:
        """Sum losses and right answers over some rows."""
        logits, next_logits = (one.double() for one in predict(model, batch))
        chosen = batch["labels"][batch["labels"] != IGNORED]
        label = batch["next_sentence_label"]
        return {
            "tokens": float(len(chosen)),
            "masked_loss": float(cross_entropy(logits, chosen, reduction="sum")),
            "masked_loss_unigram": -float(unigram[chosen].sum()),
            "masked_accuracy": float((logits.argmax(-1) == chosen).sum()),
            "masked_accuracy_unigram": float((chosen == unigram.argmax()).sum()),
            "rows": float(len(label)),
            "next_sentence_loss": float(cross_entropy(next_logits, label, reduction="sum")),
            "next_sentence_accuracy": float((next_logits.argmax(-1) == label).sum()),
            "is_next": float((label == IS_NEXT).sum()),
        }

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Means over chosen tokens and over pairs."""
        means = {
            f"pretrain/{name}": total / sums["tokens" if name.startswith("masked") else "rows"]
            for name, total in sums.items()
            if name not in ("tokens", "rows", "is_next")
        }
        loss = means["pretrain/masked_loss"] + means["pretrain/next_sentence_loss"]
        is_next = sums["is_next"] / sums["rows"]
        majority = max(is_next, 1 - is_next)
        return {
            "pretrain/heldout_loss": loss,
            **means,
            "pretrain/next_sentence_majority": majority,
        }

    def samples(self, model: Any, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """Show each row as the model sees it, and its most probable answers.

        Yields:
            `text` with its special tokens; `answers`, for each chosen token `right`, `seen` and
            `top` of `token` and `probability`; `is_next` and `is_next_probability`.
        """
        for row in rows:
            logits, next_logits = predict(model, to_device(self.collate([row]), model.device))
            probabilities = logits.float().softmax(-1).cpu()  # (chosen, vocab)
            chosen = [at for at, label in enumerate(row["labels"]) if label != IGNORED]
            yield {
                "text": self.encoder.decode(row["input_ids"]),
                "answers": [
                    {
                        "right": self.encoder.decode([row["labels"][at]]),
                        "seen": self.encoder.decode([row["input_ids"][at]]),
                        "top": self._top(answer),
                    }
                    for at, answer in zip(chosen, probabilities, strict=True)
                ],
                "is_next": row["next_sentence_label"] == [IS_NEXT],
                "is_next_probability": float(next_logits.float().softmax(-1)[0, IS_NEXT]),
            }

    def _top(self, probabilities: torch.Tensor) -> list[dict[str, Any]]:
        top = probabilities.topk(min(ANSWERS, len(probabilities)))
        return [
            {"token": self.encoder.decode([token]), "probability": probability}
            for token, probability in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]


def predict(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute logits of the chosen tokens, (chosen, vocab), and of both labels, (rows, 2).

    The head is computed at the chosen tokens only, which are few.
    """
    trunk = model.bert(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        token_type_ids=batch["token_type_ids"],
    )
    chosen = trunk.last_hidden_state[batch["labels"] != IGNORED]  # (chosen, width)
    return model.cls.predictions(chosen), model.cls.seq_relationship(trunk.pooler_output)
