"""The configs of pretraining and supervised fine-tuning."""

from pydantic import Field, NonNegativeFloat, PositiveFloat

from models.config import Config, Count, ShareBelowOne


class PretrainConfig(Config):
    """Next-token prediction on packed blocks of the corpus."""

    steps: Count = 2000
    """Optimiser steps."""
    batch_size: Count = 16
    """Packed blocks an optimiser step."""
    block_tokens: int = Field(128, ge=16, title="Block length")
    """Tokens a packed block; at most the model's context."""
    learning_rate: PositiveFloat = 2e-3
    """Peak of the schedule."""
    warmup_ratio: ShareBelowOne = Field(0.05, title="Warm-up")
    """Share of the steps over which the learning rate rises; then cosine to 10%."""
    weight_decay: NonNegativeFloat = 0.1
    """AdamW, on matrices only."""
    max_grad_norm: PositiveFloat = Field(1.0, title="Gradient clipping")
    """Largest global gradient norm."""
    checkpoint_steps: Count = Field(500, title="Checkpoint every")
    """Optimiser steps."""


class SFTStageConfig(Config):
    """Supervised fine-tuning on demonstrations, loss on completion and EOS only."""

    epochs: PositiveFloat = 1.0
    """Passes over the rows."""
    batch_size: Count = 32
    """Demonstrations an optimiser step."""
    max_tokens: int = Field(1024, ge=16, title="Longest sequence")
    """Tokens of prompt and completion together; at most the model's context."""
    learning_rate: PositiveFloat = 1e-3
    """Peak of the schedule."""
    warmup_ratio: ShareBelowOne = Field(0.05, title="Warm-up")
    """Share of the steps."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW."""
    max_grad_norm: PositiveFloat = Field(1.0, title="Gradient clipping")
    """Largest global gradient norm."""
    checkpoint_steps: Count = Field(100, title="Checkpoint every")
    """Optimiser steps."""
