"""Pretraining of BART: an encoder reads a corrupted document, a decoder restores it.

The loss is the mean over the tokens of the documents, EOS included, each predicted from those
before it and from the corrupted document. Held-out loss and accuracy stand beside those of always
answering with the corpus's frequencies, and its most frequent token.

What differs from the paper: no dropout, and the recipe of pretraining (AdamW 0.9/0.95, cosine); a
document is its tokens and EOS, without a token before them.

Source: Lewis et al., BART (2020), section 2.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers.models.bart.modeling_bart import shift_tokens_right

from models.families.config import ArchitectureConfig
from models.objectives.batches import Batch, Row, mask_of, pad_rows, to_device
from models.objectives.documents import Pieces
from models.objectives.masking import IGNORED
from models.objectives.noise import add_noise
from models.runtime import TrainingRun
from models.training.config import PretrainConfig
from models.training.reconstruction import Objective, pretrain_reconstruction


def pretrain_denoising(
    *,
    tokenizer: Path,
    corpus: Path,
    heldout: Path,
    architecture: ArchitectureConfig,
    config: PretrainConfig,
    run: TrainingRun,
) -> dict[str, float]:
    """Pretrain a sequence-to-sequence model by denoising; see `pretrain_reconstruction`."""
    return pretrain_reconstruction(
        Denoising,
        tokenizer=tokenizer,
        corpus=corpus,
        heldout=heldout,
        architecture=architecture,
        config=config,
        run=run,
    )


class Denoising(Objective):
    """Corrupted documents."""

    special = ("mask",)
    added_tokens = 1  # EOS

    def make_row(self, pieces: Pieces, number: int, generator: torch.Generator) -> Row:
        """Corrupt a piece; inserted masks that the context has no room for are cut at the end."""
        piece, eos = pieces[number], self.encoder.eos_token_id
        noisy = add_noise(piece, self.config.denoising, self.encoder.mask_token_id, generator)
        return {"input_ids": [*noisy[: self.room], eos], "labels": [*piece.ids, eos]}

    def collate(self, rows: Sequence[Row], of: int | None = None) -> Batch:
        """Pad rows.

        Returns:
            input_ids and attention_mask, (rows, noisy); labels and decoder_attention_mask,
            (rows, seq).
        """
        return {
            "input_ids": pad_rows(rows, "input_ids", self.encoder.pad_token_id),
            "attention_mask": mask_of(rows, "input_ids"),
            "labels": pad_rows(rows, "labels", IGNORED),
            "decoder_attention_mask": mask_of(rows, "labels"),
        }

    def without_effect(self, row: Row) -> Row:
        """Make a row without labels."""
        return {**row, "labels": [IGNORED] * len(row["labels"])}

    def loss(self, model: Any, batch: Batch, targets: torch.Tensor) -> torch.Tensor:
        """Compute these rows' share of the mean over target tokens."""
        logits = predict(model, batch).float()
        total = cross_entropy(
            logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return total / targets

    def sums(self, model: Any, batch: Batch, unigram: torch.Tensor) -> Mapping[str, float]:
        """Sum losses and right answers over some rows."""
        counts = batch["labels"] != IGNORED
        logits, targets = predict(model, batch)[counts].double(), batch["labels"][counts]
        return {
            "tokens": float(len(targets)),
            "heldout_loss": float(cross_entropy(logits, targets, reduction="sum")),
            "heldout_loss_unigram": -float(unigram[targets].sum()),
            "restored_accuracy": float((logits.argmax(-1) == targets).sum()),
            "restored_accuracy_unigram": float((targets == unigram.argmax()).sum()),
        }

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Means over target tokens."""
        return {
            f"pretrain/{name}": total / sums["tokens"]
            for name, total in sums.items()
            if name != "tokens"
        }

    def samples(self, model: Any, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        """Show corrupted documents, and what the model makes of them by greedy decoding.

        Yields:
            `noisy`, `document` and `restored`.
        """
        batch = to_device(self.collate(rows), model.device)
        eos = self.encoder.eos_token_id
        for row, ids in zip(rows, restore(model, batch, self.config.block_tokens), strict=True):
            ended = ids.index(eos) if eos in ids else len(ids)
            yield {
                "noisy": self.encoder.decode(row["input_ids"][:-1]),
                "document": self.encoder.decode(row["labels"][:-1]),
                "restored": self.encoder.decode(ids[:ended]),
            }


def predict(model: Any, batch: Batch) -> torch.Tensor:
    """Compute logits of each target token after those before it, (rows, seq, vocab)."""
    config = model.config
    before = shift_tokens_right(batch["labels"], config.pad_token_id, config.decoder_start_token_id)
    logits: torch.Tensor = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        decoder_input_ids=before,
        use_cache=False,
    ).logits
    return logits


def restore(model: Any, batch: Batch, most_tokens: int) -> list[list[int]]:
    """Decode greedily, a few rows of at most so many tokens; what follows an EOS is of no use."""
    config = model.config
    ids = batch["input_ids"]
    decoded = ids.new_full((len(ids), 1), config.decoder_start_token_id)
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    while decoded.shape[1] <= most_tokens and not ended.all():
        logits = model(
            input_ids=ids,
            attention_mask=batch["attention_mask"],
            decoder_input_ids=decoded,
            use_cache=False,
        ).logits
        latest = logits[:, -1].argmax(-1)
        decoded = torch.cat([decoded, latest[:, None]], dim=1)
        ended |= latest == config.eos_token_id
    found: list[list[int]] = decoded[:, 1:].tolist()
    return found
