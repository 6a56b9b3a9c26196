"""Moments of a reward model's scores on samples of the SFT model, with which PPO normalises."""

import logging
from pathlib import Path
from typing import Any

import torch

from models.errors import DataError, ParameterError
from models.language.config import SamplingConfig
from models.language.generation import sample_completions
from models.language.scoring import SCORED_TOKENS, ScoreMoments, score_sequences
from models.language.tokenizer import encode_prompts
from models.randomness import derive_seed
from models.reward.config import RewardStageConfig
from models.rows import count_rows, rows_at

logger = logging.getLogger(__name__)


def measure_score_moments(
    model: Any,
    sft_model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    *,
    config: RewardStageConfig,
    sampling: SamplingConfig,
    seed: int,
) -> ScoreMoments:
    """Take the moments of scores of one completion of the SFT model for each prompt."""
    completions = sample_completions(
        sft_model,
        prompts,
        sampling=sampling,
        eos_token_id=tokenizer.eos_token_id,
        generator=torch.Generator().manual_seed(derive_seed(seed, "reward.moments")),
    )
    sequences = [p + c.token_ids for p, c in zip(prompts, completions, strict=True)]
    return score_moments(model, sequences, config)


def score_moments(
    model: Any, sequences: list[list[int]], config: RewardStageConfig
) -> ScoreMoments:
    """Take the moments of scores of prompts with their completions."""
    at_once = min(SCORED_TOKENS, config.tokens_per_microbatch)
    scores = score_sequences(model, sequences, at_once).double()
    raw_std = float(scores.std())
    if raw_std < config.min_score_std:
        logger.warning(
            "scores of completions deviate by %.4g only; %.4g is stored instead, because "
            "dividing by less would amplify noise: the reward model hardly tells them apart",
            raw_std, config.min_score_std,
        )  # fmt: skip
    return ScoreMoments(
        mean=float(scores.mean()),
        std=max(raw_std, config.min_score_std),
        raw_std=raw_std,
        samples=len(scores),
    )


def draw_prompts(
    tokenizer: Any,
    path: Path,
    model_config: Any,
    config: RewardStageConfig,
    sampling: SamplingConfig,
    seed: int,
) -> list[list[int]]:
    """Draw prompts for the score moments, without repetition while they last."""
    count = count_rows(path)
    if not count:
        raise DataError(f"{path} holds no prompts, wanted some to sample completions for")
    room = model_config.max_position_embeddings - sampling.max_completion_tokens
    if room < 1:
        raise ParameterError(
            f"max_completion_tokens {sampling.max_completion_tokens} fills the context of "
            f"{model_config.max_position_embeddings} tokens; lower it to leave room for prompts"
        )
    generator = torch.Generator().manual_seed(derive_seed(seed, "reward.prompts"))
    drawn = torch.randperm(count, generator=generator)
    places = drawn[torch.arange(config.moment_samples) % count].tolist()
    texts = [row["prompt"] for row in rows_at(path, places)]
    return encode_prompts(tokenizer, texts, room)
