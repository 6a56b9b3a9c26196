"""What pretraining can be told."""

from pydantic import Field

from models.config import Config


class PretrainConfig(Config):
    """Next-token prediction on packed blocks of the corpus."""

    steps: int = Field(default=2000, ge=1, title="Steps", description="Optimiser steps.")
    batch_size: int = Field(
        default=16, ge=1, title="Batch size", description="Packed blocks an optimiser step."
    )
    block_tokens: int = Field(
        default=128,
        ge=16,
        title="Block length",
        description="Tokens a packed block; at most the model's context.",
    )
    learning_rate: float = Field(
        default=2e-3, gt=0, title="Learning rate", description="Peak of the schedule."
    )
    warmup_ratio: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        title="Warm-up",
        description="Share of the steps over which the learning rate rises; then cosine to 10%.",
    )
    weight_decay: float = Field(
        default=0.1, ge=0, title="Weight decay", description="AdamW, on matrices only."
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, title="Gradient clipping", description="Largest global gradient norm."
    )
    checkpoint_steps: int = Field(
        default=500, ge=1, title="Checkpoint every", description="Optimiser steps."
    )
