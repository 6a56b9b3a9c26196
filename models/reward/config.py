"""What reward modelling can be told."""

from pydantic import Field

from models.config import Config


class RewardStageConfig(Config):
    """A Bradley-Terry reward model trained on preferences, started from the SFT model."""

    epochs: float = Field(default=1.0, gt=0, title="Epochs", description="Passes over the pairs.")
    batch_size: int = Field(
        default=64, ge=1, title="Batch size", description="Pairs an optimiser step."
    )
    max_tokens: int = Field(
        default=1024,
        ge=16,
        title="Longest sequence",
        description="Tokens of prompt and completion together; at most the model's context.",
    )
    learning_rate: float = Field(
        default=5e-4, gt=0, title="Learning rate", description="Peak of the schedule."
    )
    warmup_ratio: float = Field(
        default=0.05, ge=0, lt=1, title="Warm-up", description="Share of the steps."
    )
    weight_decay: float = Field(default=0.0, ge=0, title="Weight decay", description="AdamW.")
    max_grad_norm: float = Field(
        default=1.0, gt=0, title="Gradient clipping", description="Largest global gradient norm."
    )
    moment_samples: int = Field(
        default=512,
        ge=16,
        title="Samples for the score moments",
        description="SFT completions whose scores give the stored mean and standard deviation.",
    )
    min_score_std: float = Field(
        default=0.1,
        gt=0,
        title="Smallest score deviation",
        description="Floor of the stored standard deviation; dividing by less amplifies noise.",
    )
    checkpoint_steps: int = Field(
        default=50, ge=1, title="Checkpoint every", description="Optimiser steps."
    )
    judge_share: float = Field(
        default=0.0,
        ge=0,
        le=0.8,
        title="Judge's share",
        description="Share of the prompts whose pairs train a second model to judge PPO; 0: none.",
    )
