"""Direct preference optimisation: the policy learns from preferences without a reward model.

Stands in PPO's place. Policy and reference start from the SFT model. How likely the reference makes
a completion never changes, so it is computed once, before the first step, by the very model that
learns then, rounded as it will be: one network in memory, not two. TRL's DPOTrainer learns, on
packed rows; its loss is our own, since TRL's knows no ties, and the same where there are none.

Source: Rafailov et al. 2023, Direct Preference Optimization (arXiv 2305.18290), equation 7.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch.nn.functional import logsigmoid
from trl import DPOConfig, DPOTrainer

from models.distributed.team import current_team
from models.errors import ParameterError
from models.language.encoded_rows import EncodedRows, encode_rows, token_type
from models.language.examples import encode_pairs, warn_of_dropped
from models.language.folders import load_causal_model, load_tokenizer
from models.language.packing import cut_rows, use_packed_attention
from models.language.sequences import Sequences, map_chunks, token_logprobs
from models.preference_shares import PreferenceShare
from models.randomness import derive_seed
from models.rows import Row, first_rows, has_messages, held_out_rows
from models.runtime import TrainingRun, computes_mixed, weights_dtype
from models.statistics.intervals import wilson_interval
from models.training.adapters import add_adapter, publish
from models.training.config import DPOStageConfig
from models.training.memory import lowered
from models.training.order import rows_to_learn, training_order
from models.training.packed_trainers import pair_losses
from models.training.setup import GuardedTrainer, train, trainer_settings

SIDES = ("chosen", "rejected")
PAIRS_AT_ONCE = 1024
"""Pairs whose log-probabilities are computed in the order of their lengths."""


class PackedDPOTrainer(GuardedTrainer, DPOTrainer):  # type: ignore[misc]
    """TRL's DPOTrainer on packed rows, both completions of a pair in one micro-batch."""

    def __init__(self, *, model: Any, **settings: Any) -> None:
        """Take rows of `_encode`, each with its `reference`."""
        use_packed_attention(model)
        super().__init__(model=model, data_collator=collate_pairs, **settings)

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        """Take the rows as they are: tokenised, with the reference's logprobs."""
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *args: Any) -> Any:
        return dataset

    def collate(self, rows: list[Any], of: int) -> dict[str, torch.Tensor]:
        """Lay out some pairs of a batch of `of`, as `collate_pairs`."""
        return collate_pairs(rows, of)

    def without_effect(self, row: dict[str, Any]) -> dict[str, Any]:
        """Make a pair that can be computed and counts for nothing."""
        return {**row, "counts": False}

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Compute the mean of the pairs' losses over the whole batch."""
        tie, weight, reference = inputs["tie"], inputs["weight"], inputs["reference"]
        sequences = Sequences(
            **{name: inputs[name] for name in ("input_ids", "prompt_lengths", "completion_lengths")}
        )
        pairs = len(tie)
        rewards = torch.zeros_like(reference)

        def compute_share(part: torch.Tensor) -> torch.Tensor:
            rows = torch.cat([part, part + pairs])
            # accelerate puts mixed precision around the model's own forward, not called here.
            with self.accelerator.autocast():
                logprobs = token_logprobs(model, sequences.select(rows)).logprobs.sum(1)
            found = self.beta * (logprobs - reference[rows])
            rewards[rows] = found.detach()
            chosen, rejected = found.chunk(2)
            losses = pair_losses(chosen, rejected, torch.zeros_like(chosen), tie[part])
            return torch.sum(weight[part] * losses)

        tokens = sequences.lengths[:pairs] + sequences.lengths[pairs:]
        cuts = cut_rows(tokens.tolist(), self.tokens_per_microbatch)
        parts = [torch.arange(cut.start, cut.stop, device=tie.device) for cut in cuts]
        loss = self.accumulate(parts, compute_share)
        mine = torch.stack(rewards.chunk(2))[:, ~tie & (weight > 0)].cpu()
        chosen, rejected = torch.cat(current_team().gather(mine), dim=1)
        if len(chosen):  # of the whole batch
            seen = self._metrics["train"]
            seen["accuracy"].append((chosen > rejected).float().mean().item())
            seen["margin"].append((chosen - rejected).mean().item())
            seen["chosen_reward"].append(chosen.mean().item())
            seen["rejected_reward"].append(rejected.mean().item())
        return loss


def collate_pairs(rows: list[dict[str, Any]], of: int | None = None) -> dict[str, torch.Tensor]:
    """Join pairs: all chosen completions, then all rejected ones.

    Args:
        rows: Of `_encode`, each with its `reference`.
        of: Pairs of the whole batch, if these are some of it.

    Returns:
        The fields of `Sequences` and reference, (2 pairs, …); tie and weight, (pairs,).
    """
    sequences = Sequences.from_lists(
        [row["prompt"] for _ in range(2) for row in rows],
        [row[side] for side in ("chosen", "rejected") for row in rows],
    )
    share = 1.0 / (len(rows) if of is None else of)
    return {
        "input_ids": sequences.input_ids,
        "prompt_lengths": sequences.prompt_lengths,
        "completion_lengths": sequences.completion_lengths,
        "reference": torch.tensor([row["reference"][side] for side in (0, 1) for row in rows]),
        "tie": torch.tensor([row["tie"] for row in rows]),
        "weight": torch.tensor([share if row.get("counts", True) else 0.0 for row in rows]),
    }


def train_dpo(
    *,
    sft: Path,
    preferences: Path,
    heldout: Path,
    config: DPOStageConfig,
    run: TrainingRun,
    share: PreferenceShare = PreferenceShare(),
    cache: Path | None = None,
) -> dict[str, float]:
    """Train a policy on preferences and publish its folder.

    Args:
        sft: Model folder from which policy and reference start.
        preferences: Rows with `prompt`, `chosen`, `rejected` and perhaps `tie`; margins are not
            read.
        run: With `config.lora` its `out` gets the merged model, the folder `<out>_adapter` beside
            it the adapter.
        share: Of the preferences, those to learn from.
        cache: Folder for the preferences as tokens, named after the file's contents; without one
            they are kept with the checkpoints.

    Returns:
        Final metrics: held-out loss, accuracy of the implicit reward with its 95% interval, pairs
        used and dropped, tokens computed in all epochs.

    Raises:
        ModelError: The SFT folder is not a complete causal language model.
        DataError: No pair is left to learn from or to measure on.
        DivergedError: The loss is not finite.
        ParameterError: The model shall be spread over processes.
    """
    if current_team().shards:
        raise ParameterError(
            "align is dpo and QUARTET_SHARDING or QUARTET_TENSOR_PARALLEL spreads models over "
            "processes, which DPO cannot: set QUARTET_SHARDING=replicate and "
            "QUARTET_TENSOR_PARALLEL=1"
        )
    dtype = weights_dtype(run.device, config.precision, learns=config.lora is None)
    model = load_causal_model(sft, dtype).to(run.device)
    tokenizer = load_tokenizer(sft, wants_template=has_messages(first_rows(preferences)))
    room = min(config.max_tokens, model.config.max_position_embeddings)
    learned = _encode(tokenizer, preferences, room, share, cache or run.checkpoints)
    held_out = _encode_held_out(tokenizer, heldout, room)
    before = {model.dtype: _logprobs(model, held_out, config, run)}  # by the weights' precision
    masters = config.precision == "bfloat16" and config.lora is None
    with lowered(model) if masters else nullcontext():
        reference = _logprobs(model, learned.rows, config, run)
        if masters:
            before[model.dtype] = _logprobs(model, held_out, config, run)

    def measure(model: Any) -> dict[str, float]:
        now = _logprobs(model, held_out, config, run)
        chosen, rejected = config.beta * (now - before[model.dtype])
        accuracy = wilson_interval(int((chosen > rejected).sum()), len(chosen))
        return {
            "dpo/heldout_loss": -logsigmoid(chosen - rejected).mean().item(),
            **accuracy.metrics("dpo/accuracy"),
        }

    if config.lora:
        add_adapter(model, config.lora, seed=derive_seed(run.seed, "dpo.lora"))
    trainer = _build_trainer(model, tokenizer, learned, reference, config, run)
    train(trainer, run, stage="dpo", measure=measure)
    measured = measure(model)
    run.log(measured, trainer.state.global_step)
    publish(model, tokenizer, run.out, base=sft, load=load_causal_model)
    return {
        **measured,
        **{f"dpo/{name}": float(learned.counts[name]) for name in ("pairs", "ties")},
        "dpo/tokens": float(sum(trainer.train_dataset["tokens"][:])),
        **{f"dpo/dropped_{name}": float(learned.counts[name]) for name in ("equal", "too_long")},
    }


@torch.no_grad()
def _logprobs(model: Any, pairs: Any, config: DPOStageConfig, run: TrainingRun) -> torch.Tensor:
    """Log-probability of each completion, (chosen and rejected, pairs) float32 on the CPU.

    Args:
        pairs: Rows of `_encode`, in a dataset or a column at a time.
    """
    was_training = model.training
    model.eval()
    use_packed_attention(model)
    mixed = computes_mixed(run.device, config.precision)
    count, parts = len(pairs["prompt"]), []
    for start in range(0, count, PAIRS_AT_ONCE):
        piece = slice(start, min(start + PAIRS_AT_ONCE, count))
        prompts, chosen, rejected = (pairs[name][piece] for name in ("prompt", *SIDES))
        sequences = Sequences.from_lists(prompts * 2, chosen + rejected, device=model.device)
        order = torch.argsort(sequences.lengths, stable=True)
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=mixed):
            found = map_chunks(
                lambda part: token_logprobs(model, part).logprobs.sum(1),
                sequences.select(order),
                config.tokens_per_microbatch,
                what=f"from pair {start} of {count}, computing log-probabilities of",
            )
        ordered = torch.empty(len(order))
        ordered[order.cpu()] = found.float().cpu()
        parts.append(ordered.view(2, -1))
    model.train(was_training)
    return torch.cat(parts, dim=1)


def _build_trainer(
    model: Any, tokenizer: Any, learned: EncodedRows, reference: torch.Tensor,
    config: DPOStageConfig, run: TrainingRun,
) -> Any:  # fmt: skip
    rows = learned.rows.add_column("reference", reference.T.tolist())
    order = training_order(
        learned.numbers("longest"),
        total=rows_to_learn(len(rows), config.epochs),
        batch_size=config.batch_size,
        generator=torch.Generator().manual_seed(derive_seed(run.seed, "dpo.order")),
    )
    steps = -(-len(order) // config.batch_size)
    settings = trainer_settings(config, run, stage="dpo", steps=steps)
    return PackedDPOTrainer(
        model=model,
        config=config,
        args=DPOConfig(
            **settings,
            beta=config.beta,
            max_length=None,
            precompute_ref_log_probs=True,  # they are columns of the rows
            remove_unused_columns=False,
        ),
        train_dataset=rows.select(order),
        processing_class=tokenizer,
    )


def _encode(
    tokenizer: Any, path: Path, max_tokens: int, share: PreferenceShare, cache: Path
) -> EncodedRows:
    """Tokenise a file's pairs; columns and counts are those of `Pairs`."""

    def encode(rows: list[Row]) -> tuple[Mapping[str, list[Any]], dict[str, int]]:
        pairs = encode_pairs(tokenizer, rows, max_tokens)
        return pairs.columns, pairs.counts

    tokens = token_type(tokenizer)
    learned = encode_rows(
        path,
        encode,
        {
            **dict.fromkeys(("prompt", *SIDES), tokens),
            "tie": pa.bool_(),
            "longest": pa.int32(),
            "tokens": pa.int32(),
        },
        tokenizer=tokenizer,
        settings={
            "max_tokens": max_tokens,
            "share": asdict(share) if share.judge_share else None,  # else no seed matters
        },
        cache=cache,
        takes=share.takes,
    )
    share.check(learned.counts["taken"], learned.counts["others"])
    warn_of_dropped(path, learned.counts, max_tokens, "dpo")
    return learned


def _encode_held_out(tokenizer: Any, path: Path, max_tokens: int) -> Mapping[str, list[Any]]:
    """Tokenise the pairs that are measured on, ties left out, as columns."""
    rows = [row for row in held_out_rows(path) if not row.get("tie")]
    pairs = encode_pairs(tokenizer, rows, max_tokens)
    warn_of_dropped(path, pairs.counts, max_tokens, "dpo")
    return pairs.columns
