"""What measuring a reward model can be told, and whether a weak one stops the chain."""

from pydantic import Field

from models.config import Config


class RewardQualityConfig(Config):
    """Held-out pairs, best-of-n sampling, and the rule that stops before PPO."""

    prompts: int = Field(
        default=128,
        ge=1,
        title="Best-of-n prompts",
        description="Held-out prompts sampled for the best-of-n curve, at most as many as exist.",
    )
    best_of: int = Field(
        default=16,
        ge=1,
        le=64,
        title="Largest n",
        description="SFT completions a prompt; the curve runs from 1 to this.",
    )
    bins: int = Field(
        default=10,
        ge=1,
        title="Calibration bins",
        description="Bins of equally many held-out pairs, by the difference of their scores.",
    )
    bootstrap_resamples: int = Field(
        default=2000,
        ge=100,
        title="Bootstrap resamples",
        description="Resamplings of the prompts behind each 95% interval.",
    )
    min_confidence: float = Field(
        default=0.53,
        ge=0.5,
        lt=1,
        title="Smallest mean confidence",
        description="Mean of sigmoid(|score difference|) over held-out pairs; below it, weak.",
    )
    stop_if_weak: bool = Field(
        default=True,
        title="Stop if weak",
        description="End before PPO where the reward model is no better than length or noise.",
    )
