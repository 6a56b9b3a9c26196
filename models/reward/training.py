"""Reward modelling: a score head on the SFT model's trunk learns which completion is better.

Reads the SFT model and preferences; publishes the reward model, which PPO maximises and from
which its critic starts. TRL's RewardTrainer does the learning, Bradley-Terry with an optional
margin: -log sigmoid(r_chosen - r_rejected - margin). A tie counts as both orders at half weight.

A batch is made of pairs, or of prompts with all their pairs (`reward.batch_element`). With prompts
each completion of a ranking is computed once, and the loss is the mean over the prompts of the mean
over the pairs of each, as in InstructGPT: a prompt with six pairs counts as much as one with one.

What differs from the papers: the published folder also holds the mean and standard deviation of
its scores on completions of the SFT model, with which PPO normalises; and the accuracy is reported
beside "the longer one wins" and, where pairs differ in one respect only, by respect, because a
good accuracy can hide that facts were not learned at all.

Source: Ouyang et al., Training language models to follow instructions (2022), equation 1;
Touvron et al., Llama 2 (2023), equation 2 for the margin.
"""

import logging
import re
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from trl import RewardConfig

from models.distributed.team import current_team
from models.errors import ParameterError
from models.families.scorers import reads_whole
from models.language.config import SamplingConfig
from models.language.encoded_rows import EncodedRows
from models.language.examples import Pairs, encode_pairs, warn_of_dropped
from models.language.folders import (
    load_causal_model,
    load_frozen,
    load_tokenizer,
    new_reward_model,
)
from models.language.scoring import (
    SCORED_TOKENS,
    ScoreMoments,
    write_score_moments,
)
from models.preference_shares import PreferenceShare
from models.randomness import derive_seed
from models.reward.config import RewardStageConfig
from models.reward.encoding import encode_preferences
from models.reward.moments import draw_prompts, measure_score_moments, score_moments
from models.reward.ranking import (
    accuracy_by_margin,
    decided,
    longer_wins_accuracy,
    pair_accuracy,
)
from models.rows import first_rows, has_messages, held_out_rows, read_rows
from models.runtime import TrainingRun, weights_dtype
from models.statistics.intervals import Interval
from models.training.adapters import add_adapter, publish
from models.training.order import rows_to_learn, training_order
from models.training.packed_trainers import PackedRewardTrainer
from models.training.setup import train, trainer_settings

logger = logging.getLogger(__name__)


def train_reward_model(
    *,
    sft: Path,
    preferences: Path,
    heldout: Path,
    prompts: Path,
    contrasts: Path | None,
    config: RewardStageConfig,
    sampling: SamplingConfig,
    run: TrainingRun,
    share: PreferenceShare = PreferenceShare(),
    cache: Path | None = None,
) -> dict[str, float]:
    """Train a reward model on preferences and publish its folder, score moments included.

    Args:
        sft: Folder of the SFT model: gives the trunk, and samples for the score moments. Or of a
            pretrained BERT or BART, which samples nothing: its moments are of the held-out
            completions, and `prompts` are not read.
        preferences: Rows with `prompt`, `chosen`, `rejected` and perhaps `margin` and `tie`.
        contrasts: Rows of pairs that differ in one `respect`; nothing where there are none.
        share: Of the preferences, those to learn from.
        cache: Folder for the preferences as tokens, named after the file's contents; without one
            they are kept with the checkpoints.

    Returns:
        Final metrics: held-out pair accuracy and its 95% interval, the baseline's, the accuracy
        by respect and by margin, score moments, pairs and ties used and dropped, tokens computed
        in all epochs.

    Raises:
        ModelError: The SFT folder is not a complete causal language model, BERT or BART.
        ParameterError: An adapter is wanted on a BERT or BART.
        DataError: No pair is left to learn from or to measure on, or no prompt to sample for.
        DivergedError: The loss is not finite.
    """
    model = _new_model(sft, config, run)
    tokenizer = load_tokenizer(sft, wants_template=has_messages(first_rows(preferences)))
    room = min(config.max_tokens, model.config.max_position_embeddings)
    at_once = min(SCORED_TOKENS, config.tokens_per_microbatch)
    judged = held_out_rows(heldout)
    held_out = encode_pairs(tokenizer, decided(judged, heldout), room)
    warn_of_dropped(heldout, held_out.counts, room, "reward")
    sampled_prompts = (
        []
        if reads_whole(model)
        else draw_prompts(tokenizer, prompts, model.config, config, sampling, run.seed)
    )
    learned = encode_preferences(
        tokenizer, preferences, room, share, cache or run.checkpoints,
        by_prompt=config.batch_element == "prompt",
    )  # fmt: skip
    trainer = _build_trainer(model, tokenizer, learned, config, run)
    train(
        trainer,
        run,
        stage="reward",
        measure=lambda model: {"reward/accuracy": pair_accuracy(model, held_out, at_once).mean},
    )
    metrics = _accuracies(model, tokenizer, held_out, contrasts, room, at_once)
    if "margin" in judged[0]:
        metrics |= accuracy_by_margin(model, held_out, at_once)
    run.log(metrics, trainer.state.global_step)
    counts = learned.counts
    moments = (
        score_moments(model, held_out.sequences, config)
        if reads_whole(model)
        else _sampled_moments(model, sft, tokenizer, sampled_prompts, config, sampling, run.seed)
    )
    publish(model, tokenizer, run.out, base=sft, load=partial(new_reward_model, seed=0))
    if current_team().leads:
        write_score_moments(run.out, moments)
    return {
        **metrics,
        "reward/score_mean": moments.mean,
        "reward/score_std": moments.std,
        "reward/score_raw_std": moments.raw_std,
        "reward/heldout_ties": float(sum(bool(row.get("tie")) for row in judged)),
        "reward/tokens": float(sum(trainer.train_dataset["tokens"][:])),  # in all epochs
        **{f"reward/{name}": float(counts[name]) for name in ("pairs", "prompts", "ties")},
        **{f"reward/dropped_{name}": float(counts[name]) for name in ("equal", "too_long")},
    }


def _sampled_moments(
    model: Any, sft: Path, tokenizer: Any, prompts: list[list[int]],
    config: RewardStageConfig, sampling: SamplingConfig, seed: int,
) -> ScoreMoments:  # fmt: skip
    return measure_score_moments(
        model,
        load_frozen(load_causal_model, sft, model.device, config.precision),
        tokenizer,
        prompts,
        config=config,
        sampling=sampling,
        seed=seed,
    )


def _new_model(sft: Path, config: RewardStageConfig, run: TrainingRun) -> Any:
    dtype = weights_dtype(run.device, config.precision, learns=config.lora is None)
    model = new_reward_model(sft, dtype, seed=derive_seed(run.seed, "reward.head"))
    if config.lora and reads_whole(model):
        raise ParameterError(
            f"reward.lora is set for a {model.config.model_type}, wanted a decoder; leave it out, "
            "or train the reward model from an SFT model"
        )
    if config.lora:
        add_adapter(model, config.lora, seed=derive_seed(run.seed, "reward.lora"))
    return model


def _build_trainer(
    model: Any, tokenizer: Any, learned: EncodedRows, config: RewardStageConfig, run: TrainingRun
) -> Any:
    lengths = learned.numbers("longest")
    order = training_order(
        lengths,
        total=rows_to_learn(len(lengths), config.epochs),
        batch_size=config.batch_size,
        generator=torch.Generator().manual_seed(derive_seed(run.seed, "reward.order")),
    )
    steps = -(-len(order) // config.batch_size)
    settings = trainer_settings(config, run, stage="reward", steps=steps)
    return PackedRewardTrainer(
        model=model,
        config=config,
        args=RewardConfig(**settings, max_length=None, remove_unused_columns=False),
        train_dataset=learned.rows.select(order),
        processing_class=tokenizer,
    )


def _accuracies(
    model: Any,
    tokenizer: Any,
    held_out: Pairs,
    contrasts: Path | None,
    room: int,
    batch_tokens: int,
) -> dict[str, float]:
    """Measure held-out accuracy, overall and by respect; warn if it is no better than chance."""
    accuracy = pair_accuracy(model, held_out, batch_tokens)
    if accuracy.low <= 0.5:
        logger.warning(
            "THE REWARD MODEL IS NO BETTER THAN CHANCE: held-out pair accuracy %.3f, 95%% interval "
            "[%.3f, %.3f] over %d pairs does not clear 0.5; PPO against it would learn noise",
            accuracy.mean, accuracy.low, accuracy.high, len(held_out),
        )  # fmt: skip
    by_respect: dict[str, Interval] = {}
    if contrasts:
        by_respect = _accuracy_by_respect(model, tokenizer, contrasts, room, batch_tokens)
    return {
        **{f"reward/accuracy_{name}": found.mean for name, found in by_respect.items()},
        "reward/accuracy": accuracy.mean,
        "reward/accuracy_low": accuracy.low,
        "reward/accuracy_high": accuracy.high,
        "reward/longer_wins_accuracy": longer_wins_accuracy(held_out),
    }


def _accuracy_by_respect(
    model: Any, tokenizer: Any, contrasts: Path, room: int, batch_tokens: int
) -> dict[str, Interval]:
    """Measure the accuracy on pairs that differ in one respect, respect by respect."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in read_rows(contrasts):
        groups[re.sub(r"\W+", "_", row["respect"])].append(row)
    pairs = {name: encode_pairs(tokenizer, rows, room) for name, rows in sorted(groups.items())}
    return {
        name: pair_accuracy(model, found, batch_tokens)
        for name, found in pairs.items()
        if len(found)
    }
