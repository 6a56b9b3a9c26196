"""The configs of preferences and reward models: feedback, training, quality."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from models.config import Config, Count, PositiveShare, ShareBelowOne


class FeedbackConfig(Config):
    """Completions of the SFT model, compared by an annotator and mixed with given preferences."""

    annotator: Literal["none", "simulated"] = "none"
    """Who compares: none skips the stage; simulated is the embedded world's."""
    preferences: Count = 4000
    """Training pairs after mixing, annotated and given ones together."""
    annotated_share: PositiveShare = 0.6
    """Share of the training pairs that are two samples of the SFT model."""

    @property
    def annotated(self) -> int:
        """Pairs to be annotated."""
        return round(self.preferences * self.annotated_share)

    @property
    def given(self) -> int:
        """Pairs to be taken from the given preferences."""
        return self.preferences - self.annotated


class RewardStageConfig(Config):
    """A Bradley-Terry reward model trained on preferences, started from the SFT model."""

    epochs: PositiveFloat = 1.0
    """Passes over the pairs."""
    batch_size: Count = 64
    """Pairs an optimiser step."""
    max_tokens: int = Field(1024, ge=16, title="Longest sequence")
    """Tokens of prompt and completion together; at most the model's context."""
    learning_rate: PositiveFloat = 5e-4
    """Peak of the schedule."""
    warmup_ratio: ShareBelowOne = Field(0.05, title="Warm-up")
    """Share of the steps."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW."""
    max_grad_norm: PositiveFloat = Field(1.0, title="Gradient clipping")
    """Largest global gradient norm."""
    moment_samples: int = Field(512, ge=16, title="Samples for the score moments")
    """SFT completions whose scores give the stored mean and standard deviation."""
    min_score_std: PositiveFloat = Field(0.1, title="Smallest score deviation")
    """Floor of the stored standard deviation; dividing by less amplifies noise."""
    checkpoint_steps: Count = Field(50, title="Checkpoint every")
    """Optimiser steps."""
    judge_share: float = Field(0.0, ge=0, le=0.8, title="Judge's share")
    """Share of the prompts whose pairs train a second model to judge PPO; 0: none."""


class RewardQualityConfig(Config):
    """Held-out pairs, best-of-n sampling, and the rule that stops before PPO."""

    prompts: Count = Field(128, title="Best-of-n prompts")
    """Held-out prompts sampled for the best-of-n curve, at most as many as exist."""
    best_of: int = Field(16, ge=1, le=64, title="Largest n")
    """SFT completions a prompt; the curve runs from 1 to this."""
    bins: Count = Field(10, title="Calibration bins")
    """Bins of equally many held-out pairs, by the difference of their scores."""
    bootstrap_resamples: int = Field(2000, ge=100)
    """Resamplings of the prompts behind each 95% interval."""
    min_confidence: float = Field(0.53, ge=0.5, lt=1, title="Smallest mean confidence")
    """Mean of sigmoid(|score difference|) over held-out pairs; below it, weak."""
    stop_if_weak: bool = True
    """End before PPO where the reward model is no better than length or noise."""
