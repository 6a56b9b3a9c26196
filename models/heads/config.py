"""The config of fine-tuning a head for understanding."""

from typing import Literal

from pydantic import Field, model_validator

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


class HeadConfig(Config):
    """Fine-tuning of a pretrained model with a head: classes, a score, or a choice."""

    epochs: Positive = 4.0
    """Passes over the training rows."""
    batch_size: BatchSize = 32
    """Rows per optimiser step."""
    tokens_per_microbatch: Count = 16384
    """Maximum tokens per forward and backward pass; limits memory only. No row is cut."""
    max_tokens: BlockTokens = 128
    """Of a row's texts and special tokens together; at most the model's context length. The longest
    text is cut at its end."""
    trunk: Literal["full", "frozen"] = "full"
    """full: all weights learn; frozen: the head alone."""
    initial: Literal["pretrained", "random"] = "pretrained"
    """random: the same network with fresh weights, the control for what pretraining gives."""
    auxiliary_weight: PositiveOrZero = Field(0.0, title="Weight of the language-modelling loss")
    """Lambda of GPT-1: this share of the next-token loss on the same rows is added. 0 = off; causal
    models only."""
    learning_rate: LearningRate = 1e-3
    """Peak learning rate."""
    warmup_ratio: ShareBelowOne = 0.1
    """Share of the steps with a rising learning rate; then cosine decay to 10%."""
    weight_decay: PositiveOrZero = 0.01
    """Of AdamW, on matrices only."""
    max_grad_norm: Positive = 1.0
    """Clips the global gradient norm."""
    precision: Precision = "auto"
    """Of the weights; auto = float32, computing in bfloat16 if the GPU supports it. With bfloat16
    the optimiser keeps float32 masters, which are published."""
    gradient_checkpointing: bool = False
    """Recompute activations to save memory."""
    checkpoint_steps: Steps = 200
    """Optimiser steps between checkpoints."""

    @model_validator(mode="after")
    def _auxiliary_loss_reaches_the_trunk(self) -> "HeadConfig":
        if self.auxiliary_weight and self.trunk == "frozen":
            raise ValueError(
                f"auxiliary_weight {self.auxiliary_weight:g} has nothing to teach a frozen trunk; "
                "set it to 0 or trunk to full"
            )
        return self
