"""What supervised fine-tuning can be told."""

from pydantic import Field

from models.config import Config


class SFTStageConfig(Config):
    """Supervised fine-tuning on demonstrations, loss on completion and EOS only."""

    epochs: float = Field(default=1.0, gt=0, title="Epochs", description="Passes over the rows.")
    batch_size: int = Field(
        default=32, ge=1, title="Batch size", description="Demonstrations an optimiser step."
    )
    max_tokens: int = Field(
        default=1024,
        ge=16,
        title="Longest sequence",
        description="Tokens of prompt and completion together; at most the model's context.",
    )
    learning_rate: float = Field(
        default=1e-3, gt=0, title="Learning rate", description="Peak of the schedule."
    )
    warmup_ratio: float = Field(
        default=0.05, ge=0, lt=1, title="Warm-up", description="Share of the steps."
    )
    weight_decay: float = Field(default=0.0, ge=0, title="Weight decay", description="AdamW.")
    max_grad_norm: float = Field(
        default=1.0, gt=0, title="Gradient clipping", description="Largest global gradient norm."
    )
    checkpoint_steps: int = Field(
        default=100, ge=1, title="Checkpoint every", description="Optimiser steps."
    )
