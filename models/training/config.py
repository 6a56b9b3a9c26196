"""The configs of pretraining and supervised fine-tuning."""

from pydantic import Field, NonNegativeFloat, PositiveFloat

from models.config import Config, Count, ShareBelowOne


class PretrainConfig(Config):
    """Next-token prediction on packed blocks of the corpus."""

    steps: Count = 2000
    """Optimiser steps."""
    batch_size: Count = 16
    """Packed blocks per optimiser step."""
    block_tokens: int = Field(128, ge=16)
    """Tokens per packed block; at most the model's context length."""
    learning_rate: PositiveFloat = 2e-3
    """Peak learning rate."""
    warmup_ratio: ShareBelowOne = 0.05
    """Share of the steps with a rising learning rate; then cosine decay to 10%."""
    weight_decay: NonNegativeFloat = 0.1
    """Of AdamW, on matrices only."""
    max_grad_norm: PositiveFloat = 1.0
    """Clips the global gradient norm."""
    checkpoint_steps: Count = 500
    """Optimiser steps between checkpoints."""


class SFTStageConfig(Config):
    """Supervised fine-tuning on demonstrations; loss on completion and EOS only."""

    epochs: PositiveFloat = 1.0
    """Passes over the demonstrations."""
    batch_size: Count = 32
    """Demonstrations per optimiser step."""
    max_tokens: int = Field(1024, ge=16)
    """Of prompt and completion together; at most the model's context length."""
    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate."""
    warmup_ratio: ShareBelowOne = 0.05
    """Share of the steps with a rising learning rate."""
    weight_decay: NonNegativeFloat = 0.0
    """Of AdamW."""
    max_grad_norm: PositiveFloat = 1.0
    """Clips the global gradient norm."""
    checkpoint_steps: Count = 100
    """Optimiser steps between checkpoints."""
