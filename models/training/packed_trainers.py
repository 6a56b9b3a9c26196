"""TRL's trainers for SFT and reward modelling on rows without padding.

Both keep TRL's loss and everything it logs: TRL computes them from what it takes for the model's
output, and that output is made here, from one packed row instead of a padded batch. Where the
output is only read, it is only computed: logits at the positions before completion tokens, scores
at the last token of each row. Nothing of TRL or transformers is replaced.
"""

from functools import partial
from typing import Any

import torch
from transformers.modeling_outputs import SequenceClassifierOutput
from trl import RewardTrainer, SFTTrainer
from trl.trainer.utils import FusedCausalLMOutput

from models.language.packing import use_packed_attention
from models.language.sequences import Sequences, sequence_scores
from models.training.setup import GuardedTrainer

IGNORED_LABEL = -100
MOST_LOGITS = 2**28
"""So many exist at once, 1 GiB in float32 and as much again for each step of the softmax; a batch
with more goes through TRL's own head, which is slower on a CPU but takes them in tiles."""


class PackedSFTTrainer(GuardedTrainer, SFTTrainer):  # type: ignore[misc]
    """TRL's SFTTrainer on packed rows, with the head at completion positions only.

    Wants `padding_free` unless batches have one row. On a GPU TRL's own head is left in place: it
    also skips the other positions there.
    """

    def __init__(self, *, model: Any, **settings: Any) -> None:
        use_packed_attention(model)
        super().__init__(model=model, **settings)

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute TRL's loss, the mean over the completion tokens of the whole batch."""
        labels = inputs["labels"]
        logits = int((labels != IGNORED_LABEL).sum()) * model.config.vocab_size
        if labels.device.type == "cpu" and len(labels) == 1 and logits <= MOST_LOGITS:
            model = partial(_predict_labels, model)
        return super().compute_loss(model, inputs, *args, **kwargs)


class PackedRewardTrainer(GuardedTrainer, RewardTrainer):  # type: ignore[misc]
    """TRL's RewardTrainer that scores chosen and rejected rows as one packed row."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute TRL's loss, the mean over the pairs."""

        def score(**batch: Any) -> SequenceClassifierOutput:
            # accelerate puts mixed precision around the model's own forward, which is not called.
            with self.accelerator.autocast():
                return _score_rows(model, **batch)

        return super().compute_loss(score, inputs, *args, **kwargs)


def _predict_labels(
    model: Any, *, labels: torch.Tensor, fused_lm_head: bool, **row: Any
) -> FusedCausalLMOutput:
    """Say of one packed row what TRL's fused head would, at the labelled positions only.

    Args:
        labels: (1, packed tokens).
    """
    before = (labels[0, 1:] != IGNORED_LABEL).nonzero().flatten()
    targets = labels[0, before + 1]  # (tokens,)
    logits = model(**row, logits_to_keep=before).logits[0]  # (tokens, vocab)
    log_softmax = logits.float().log_softmax(-1)
    with torch.no_grad():
        entropy = -(log_softmax.exp() * log_softmax).sum(-1)
        is_top1 = log_softmax.argmax(-1) == targets
    return FusedCausalLMOutput(
        log_probs=log_softmax.gather(1, targets[:, None]).squeeze(1),
        entropy=entropy,
        is_top1=is_top1,
        label_mask=torch.ones_like(is_top1),
    )


def _score_rows(
    model: Any, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, **others: Any
) -> SequenceClassifierOutput:
    """Score padded rows, (batch, seq), as one packed row."""
    lengths = attention_mask.sum(1)
    rows = Sequences(
        input_ids=input_ids,
        # The split between prompt and completion is of no matter here: only the end is read.
        prompt_lengths=torch.zeros_like(lengths),
        completion_lengths=lengths,
    )
    order = lengths.argsort(stable=True)  # neighbours of equal length share a call of attention
    scores = sequence_scores(model, rows.select(order))
    return SequenceClassifierOutput(logits=scores[order.argsort(), None])
