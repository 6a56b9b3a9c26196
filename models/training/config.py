"""The configs of pretraining, supervised fine-tuning, best-of-n and DPO."""

from pydantic import Field

from models.config import (
    BatchSize,
    BlockTokens,
    Config,
    Count,
    LearningRate,
    Positive,
    PositiveOrZero,
    Precision,
    ShareBelowOne,
    Steps,
)
from models.language.config import LoRAConfig, Turns
from models.objectives.config import DenoisingConfig, MaskingConfig


class PretrainConfig(Config):
    """Pretraining on the corpus: next-token prediction, or what fits the architecture's family."""

    steps: Steps = 2000
    """Optimiser steps."""
    batch_size: BatchSize = 16
    """Packed blocks per optimiser step; of masked language modelling and denoising rows."""
    tokens_per_microbatch: Count = 16384
    """Maximum tokens per forward and backward pass; limits memory only."""
    block_tokens: BlockTokens = 128
    """Tokens per packed block, most tokens of a row; at most the model's context length."""
    learning_rate: LearningRate = 2e-3
    """Peak learning rate."""
    warmup_ratio: ShareBelowOne = 0.05
    """Share of the steps with a rising learning rate; then cosine decay to 10%."""
    weight_decay: PositiveOrZero = 0.1
    """Of AdamW, on matrices only."""
    max_grad_norm: Positive = 1.0
    """Clips the global gradient norm."""
    precision: Precision = "auto"
    """Of the weights; auto = float32, computing in bfloat16 if the GPU supports it. With bfloat16
    the optimiser keeps float32 masters, which are published."""
    gradient_checkpointing: bool = False
    """Recompute activations to save memory."""
    checkpoint_steps: Steps = 500
    """Optimiser steps between checkpoints."""
    masking: MaskingConfig = Field(default_factory=MaskingConfig)
    denoising: DenoisingConfig = Field(default_factory=DenoisingConfig)


class FineTuningConfig(Config):
    """What every training on a dataset has in common."""

    epochs: Positive = 1.0
    """Passes over the data."""
    tokens_per_microbatch: Count = 16384
    """Maximum tokens per forward and backward pass; limits memory only. No row is cut."""
    max_tokens: BlockTokens = 1024
    """Of prompt and completion together; at most the model's context length."""
    warmup_ratio: ShareBelowOne = 0.05
    """Share of the steps with a rising learning rate."""
    weight_decay: PositiveOrZero = 0.0
    """Of AdamW."""
    max_grad_norm: Positive = 1.0
    """Clips the global gradient norm."""
    lora: LoRAConfig | None = None
    """Train only adapters, and a reward model's score head; none = all weights."""
    precision: Precision = "auto"
    """Of the weights; auto = float32, computing in bfloat16 if the GPU supports it. With bfloat16
    the optimiser keeps float32 masters, which are published."""
    gradient_checkpointing: bool = False
    """Recompute activations to save memory."""


class SFTStageConfig(FineTuningConfig):
    """Supervised fine-tuning on demonstrations; loss on the assistant's turns only."""

    batch_size: BatchSize = 32
    """Demonstrations per optimiser step."""
    turns: Turns = Field("all", title="Assistant turns learned from")
    """Of a conversation; all: earlier turns of the assistant as well; last: the final one only."""
    learning_rate: LearningRate = 1e-3
    """Peak learning rate."""
    checkpoint_steps: Steps = 100
    """Optimiser steps between checkpoints."""


class BestOfNConfig(Config):
    """SFT on the SFT model's own completions that the reward model likes best, in PPO's place."""

    samples_per_prompt: int = Field(16, ge=2, le=10_000)
    """Completions of each training prompt, of which one is learned from."""


class DPOStageConfig(FineTuningConfig):
    """Direct preference optimisation of the SFT model on the reward model's own pairs."""

    batch_size: BatchSize = 64
    """Pairs per optimiser step."""
    beta: Positive = 0.1
    """Weight of the KL to the SFT model: the larger, the nearer the policy stays."""
    learning_rate: LearningRate = 1e-4
    """Peak learning rate."""
    checkpoint_steps: Steps = 50
    """Optimiser steps between checkpoints."""
