"""TRL's trainers for SFT and reward modelling on rows without padding.

Both keep everything that TRL logs, and SFT its loss: TRL computes them from what it takes for the
model's output, and that output is made here, from one packed row instead of a padded batch. Where
the output is only read, it is only computed: logits at the positions before completion tokens,
scores at the last token of each row. The reward model's loss is our own: TRL's has neither ties nor
batch elements of several pairs, and is the same where there are none.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import SequenceClassifierOutput
from trl import RewardTrainer, SFTTrainer
from trl.trainer.utils import FusedCausalLMOutput

from models.distributed.team import current_team
from models.language.examples import Pairs
from models.language.packing import cut_rows, use_packed_attention
from models.language.sequences import Sequences, sequence_scores
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

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Compute TRL's loss, the mean over the completion tokens of the whole batch."""
        outputs: list[FusedCausalLMOutput] = []

        parts = list(_cut_packed(inputs, self.tokens_per_microbatch))

        def compute_share(part: dict[str, Any]) -> torch.Tensor:
            output = self._predict(model, part)
            outputs.append(FusedCausalLMOutput(**{k: v.detach() for k, v in output.items()}))
            loss: torch.Tensor = -output.log_probs.sum() / num_items_in_batch
            if self.aux_loss_enabled:  # of a mixture of experts
                shares = len(parts) * current_team().size
                loss = loss + self.router_aux_loss_coef * output.aux_loss / shares
            return loss

        loss = self.accumulate(parts, compute_share)
        outputs = outputs[-len(parts) :]  # without those that stood in
        super().compute_loss(lambda **_: _join(outputs), dict(inputs))  # for what it logs
        return loss

    def _predict(self, model: Any, part: dict[str, Any]) -> FusedCausalLMOutput:
        labels = part["labels"]
        logits = int((labels != IGNORED_LABEL).sum()) * model.config.vocab_size
        if labels.device.type == "cpu" and len(labels) == 1 and logits <= MOST_LOGITS:
            model = partial(_predict_labels, model)
        wanted = {"output_router_logits": True} if self.aux_loss_enabled else {}
        output: FusedCausalLMOutput = model(**part, **wanted, use_cache=False, fused_lm_head=True)
        return output


class PackedRewardTrainer(GuardedTrainer, RewardTrainer):  # type: ignore[misc]
    """TRL's RewardTrainer whose batch elements are prompts with completions and pairs of these.

    Each completion of a batch is scored once, all of a micro-batch in one packed row; an element is
    never cut. TRL logs what it logs, of the whole batch's pairs that are no ties.
    """

    def __init__(self, **settings: Any) -> None:
        """Take rows of `batch_elements`."""
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
        tie, margin = inputs["tie"], inputs["margin"]
        scores = margin.new_zeros(len(inputs["input_ids"]))

        def compute_share(part: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            sequences, pairs = part
            rows = inputs["input_ids"][sequences], inputs["attention_mask"][sequences]
            # accelerate puts mixed precision around the model's own forward, not called here.
            with self.accelerator.autocast():
                found = _score_rows(model, *rows)
            scores[sequences] = found.detach()
            place = sequences.cumsum(0) - 1
            chosen, rejected = (
                found[place[inputs[side][pairs]]] for side in ("chosen", "rejected")
            )
            one = pair_losses(chosen, rejected, margin[pairs], tie[pairs])
            return torch.sum(inputs["weight"][pairs] * one)

        parts = list(_cut_elements(inputs, self.tokens_per_microbatch))
        loss = self.accumulate(parts, compute_share)
        mine = torch.stack([scores[inputs["chosen"]], scores[inputs["rejected"]], margin])
        (*decided,) = torch.cat(current_team().gather(mine[:, ~tie].cpu()), dim=1).to(margin)
        if len(decided[0]):  # of the whole batch
            seen = torch.cat(decided[:2])[:, None]
            super().compute_loss(
                lambda **_: SequenceClassifierOutput(logits=seen),
                {"attention_mask": inputs["attention_mask"], "margin": decided[2]},
            )
        return loss


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
        (pairs,). Pairs of one element share its weight, and all elements have the same. Of which
        element each is: sequence_element, (sequences,), and pair_element, (pairs,).
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
        "sequence_element": torch.tensor([at for at, _ in places]),
        "pair_element": torch.tensor([at for at, _ in pairs]),
    }


def _cut_packed(inputs: dict[str, Any], max_tokens: int) -> Iterator[dict[str, Any]]:
    """Cut a batch, packed or padded, into micro-batches of whole rows."""
    if "cu_seq_lens_q" not in inputs:
        rows, width = inputs["labels"].shape
        for part in cut_rows([width] * rows, max_tokens):
            yield {name: column[part] for name, column in inputs.items()}
        return
    boundaries = inputs["cu_seq_lens_q"]
    lengths = boundaries.diff().tolist()
    for rows in cut_rows(lengths, max_tokens):
        ends = boundaries[rows.start : rows.stop + 1]
        tokens = slice(int(ends[0]), int(ends[-1]))
        longest = max(lengths[rows])
        yield {
            **{name: inputs[name][:, tokens] for name in ("input_ids", "labels", "position_ids")},
            "seq_idx": inputs["seq_idx"][:, tokens] - rows.start,
            "cu_seq_lens_q": ends - ends[0],
            "cu_seq_lens_k": ends - ends[0],
            "max_length_q": longest,
            "max_length_k": longest,
        }


def _cut_elements(
    inputs: dict[str, torch.Tensor], max_tokens: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Say which sequences and which pairs belong to each micro-batch, (sequences,), (pairs,) bool.

    Args:
        inputs: Of `collate_rankings`.
    """
    sequence, pair = inputs["sequence_element"], inputs["pair_element"]
    lengths = inputs["attention_mask"].sum(1)
    tokens = lengths.new_zeros(int(sequence.max()) + 1).index_add(0, sequence, lengths)
    for cut in cut_rows(tokens.tolist(), max_tokens):
        chosen = [(cut.start <= of) & (of < cut.stop) for of in (sequence, pair)]
        yield chosen[0], chosen[1]


def _join(outputs: list[FusedCausalLMOutput]) -> FusedCausalLMOutput:
    """Join what was said of the rows of micro-batches, one row after the other."""
    joined = {
        name: torch.cat([one[name].flatten() for one in outputs])
        for name in ("log_probs", "entropy", "is_top1", "label_mask")
    }
    if "aux_loss" in outputs[0]:
        joined["aux_loss"] = torch.stack([one["aux_loss"] for one in outputs]).mean()
    return FusedCausalLMOutput(**joined)


def _predict_labels(
    model: Any, *, labels: torch.Tensor, fused_lm_head: bool, **row: Any
) -> FusedCausalLMOutput:
    """Say of one packed row what TRL's fused head would, at the labelled positions only.

    Args:
        labels: (1, packed tokens).
    """
    before = (labels[0, 1:] != IGNORED_LABEL).nonzero().flatten()
    targets = labels[0, before + 1]  # (tokens,)
    output = model(**row, logits_to_keep=before)
    log_softmax = output.logits[0].float().log_softmax(-1)  # (tokens, vocab)
    with torch.no_grad():
        entropy = -(log_softmax.exp() * log_softmax).sum(-1)
        is_top1 = log_softmax.argmax(-1) == targets
    return FusedCausalLMOutput(
        log_probs=log_softmax.gather(1, targets[:, None]).squeeze(1),
        entropy=entropy,
        is_top1=is_top1,
        label_mask=torch.ones_like(is_top1),
        aux_loss=getattr(output, "aux_loss", None),
    )


def _score_rows(model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Score padded rows, (batch, seq), as one packed row; (batch,)."""
    lengths = attention_mask.sum(1)
    rows = Sequences(
        input_ids=input_ids,
        # The split between prompt and completion is of no matter here: only the end is read.
        prompt_lengths=torch.zeros_like(lengths),
        completion_lengths=lengths,
    )
    order = lengths.argsort(stable=True)  # neighbours of equal length share a call of attention
    return sequence_scores(model, rows.select(order))[order.argsort()]
