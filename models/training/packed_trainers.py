"""TRL's trainers for SFT and reward modelling on rows without padding.

Both keep everything that TRL logs, and SFT its loss: TRL computes them from what it takes for the
model's output, and that output is made here, from one packed row instead of a padded batch. Where
the output is only read, it is only computed: logits at the positions before completion tokens,
scores at the last token of each row. The reward model's loss is our own: TRL's has neither ties nor
batch elements of several pairs, and is the same where there are none.
"""

from collections import defaultdict
from functools import partial
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import SequenceClassifierOutput
from trl import RewardTrainer, SFTTrainer
from trl.trainer.utils import FusedCausalLMOutput

from models.distributed.team import current_team
from models.language.examples import Pairs
from models.language.packing import use_packed_attention
from models.language.sequences import Sequences, in_chunks, sequence_scores
from models.training.setup import IGNORED_LABEL, GuardedTrainer

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
    """TRL's RewardTrainer whose batch elements are prompts with completions and pairs of these.

    Each completion of a batch is scored once, all in one packed row. TRL logs what it logs, of the
    whole batch's pairs that are no ties.
    """

    def __init__(self, *, most_tokens: int, **settings: Any) -> None:
        """Take rows of `batch_elements`.

        Args:
            most_tokens: Of sequences at once. A batch with more is computed in parts, and again for
                its gradients: the same loss in more time, not in more memory.
        """
        self._most_tokens = most_tokens
        super().__init__(data_collator=collate_rankings, **settings)

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        """Take the rows as they are: tokenised, with columns that TRL does not know."""
        return dataset

    def collate(self, rows: list[Any], of: int) -> dict[str, torch.Tensor]:
        """Lay out some elements of a batch of `of`, as `collate_rankings`."""
        return collate_rankings(rows, of)

    def without_effect(self, row: dict[str, Any]) -> dict[str, Any]:
        """Make an element that can be computed and has no pairs."""
        return {**row, **{name: [] for name in ("chosen", "rejected", "margin", "tie")}}

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Compute the mean over the batch's elements of `pair_losses`, averaged within each."""
        # accelerate puts mixed precision around the model's own forward, which is not called.
        with self.accelerator.autocast():
            scores = _score_rows(
                model, inputs["input_ids"], inputs["attention_mask"], self._most_tokens
            )
        chosen, rejected = scores[inputs["chosen"]], scores[inputs["rejected"]]  # (pairs,)
        tie, margin = inputs["tie"], inputs["margin"]
        mine = torch.stack([chosen, rejected, margin])[:, ~tie].detach().cpu()
        decided = torch.cat(current_team().gather(mine), dim=1).to(scores.device)  # (3, pairs)
        if decided.numel():
            seen = decided[:2].reshape(-1, 1)
            super().compute_loss(
                lambda **_: SequenceClassifierOutput(logits=seen),
                {"attention_mask": inputs["attention_mask"], "margin": decided[2]},
            )
        losses = pair_losses(chosen, rejected, margin, tie)
        return torch.sum(inputs["weight"] * losses)


def pair_losses(
    chosen: torch.Tensor, rejected: torch.Tensor, margin: torch.Tensor, tie: torch.Tensor
) -> torch.Tensor:
    """Compute the Bradley-Terry loss of pairs, -log sigmoid(chosen - rejected - margin), (pairs,).

    A tie counts as both orders at half weight: its loss is least where the scores are equal.

    Args:
        chosen: Scores, (pairs,); so is `rejected`.
        margin: (pairs,), 0 for ties.
        tie: (pairs,) bool.

    Source:
        Touvron et al., Llama 2 (2023), equation 2, for the margin.
    """
    won = -logsigmoid(chosen - rejected - margin)
    return torch.where(tie, 0.5 * (won - logsigmoid(rejected - chosen)), won)


def batch_elements(pairs: Pairs, *, by_prompt: bool) -> list[dict[str, Any]]:
    """Arrange pairs as the trainer's batch elements, in the order of their first pairs.

    Returns:
        Of each element its distinct `sequences`, prompt and completion; and of its pairs `chosen`
        and `rejected`, places among these, `margin` and `tie`.
    """
    grouped: dict[int, list[int]] = defaultdict(list)
    for row, number in enumerate(pairs.prompt_numbers):
        grouped[number if by_prompt else row].append(row)
    elements = []
    for rows in grouped.values():
        places: dict[tuple[int, ...], int] = {}
        sides = {
            name: [places.setdefault(tuple(ids[row]), len(places)) for row in rows]
            for name, ids in (("chosen", pairs.chosen), ("rejected", pairs.rejected))
        }
        elements.append(
            {
                "sequences": [pairs.prompts[rows[0]] + list(ids) for ids in places],
                **sides,
                "margin": [pairs.margins[row] for row in rows],
                "tie": [pairs.ties[row] for row in rows],
            }
        )
    return elements


def collate_rankings(rows: list[dict[str, Any]], of: int | None = None) -> dict[str, torch.Tensor]:
    """Join batch elements: their sequences padded, their pairs as places among these.

    Args:
        rows: Of `batch_elements`.
        of: Elements of the whole batch, if these are some of it.

    Returns:
        input_ids and attention_mask, (sequences, seq); chosen, rejected, margin, tie and weight,
        (pairs,). Pairs of one element share its weight, and all elements have the same.
    """
    elements = len(rows) if of is None else of
    # First sequences of all elements, then all second ones: with pairs, chosen before rejected.
    places = sorted(
        ((at, place) for at, row in enumerate(rows) for place in range(len(row["sequences"]))),
        key=lambda one: one[::-1],
    )
    number = {place: index for index, place in enumerate(places)}
    ids = [torch.tensor(rows[at]["sequences"][place]) for at, place in places]
    pairs = [(at, pair) for at, row in enumerate(rows) for pair in range(len(row["chosen"]))]

    def column(name: str) -> list[Any]:
        return [rows[at][name][pair] for at, pair in pairs]

    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        **{
            side: torch.tensor([number[at, rows[at][side][pair]] for at, pair in pairs]).long()
            for side in ("chosen", "rejected")
        },
        "margin": torch.tensor(column("margin"), dtype=torch.float32),
        "tie": torch.tensor(column("tie"), dtype=torch.bool),
        "weight": torch.tensor([1 / len(rows[at]["chosen"]) / elements for at, _ in pairs]),
    }


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
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, most_tokens: int
) -> torch.Tensor:
    """Score padded rows, (batch, seq), as packed rows of at most so many tokens; (batch,)."""
    lengths = attention_mask.sum(1)
    rows = Sequences(
        input_ids=input_ids,
        # The split between prompt and completion is of no matter here: only the end is read.
        prompt_lengths=torch.zeros_like(lengths),
        completion_lengths=lengths,
    )
    order = lengths.argsort(stable=True)  # neighbours of equal length share a call of attention
    parts = [part for _, part in in_chunks(rows.select(order), most_tokens)]
    if len(parts) == 1:
        scores = sequence_scores(model, parts[0])
    else:
        scores = torch.cat(
            [checkpoint(sequence_scores, model, part, use_reentrant=False) for part in parts]
        )
    return scores[order.argsort()]
