"""The configs of sequence-to-sequence training and of its decoding. Imports no torch."""

from typing import Literal

from pydantic import Field

from models.config import (
    BatchSize,
    Config,
    Count,
    CountOrZero,
    LearningRate,
    Positive,
    PositiveOrZero,
    Precision,
    ShareBelowOne,
    Steps,
    Tokens,
)


class DecodingConfig(Config):
    """How targets are made of sources."""

    beams: int = Field(4, ge=1, le=1_000)
    """Hypotheses kept by beam search; 1 = greedy decoding. Sampling has no beams."""
    length_penalty: float = Field(1.0, ge=-10, le=10)
    """Beam search divides a hypothesis's log-probability by its length to this power; above 0 it
    favours longer ones."""
    temperature: PositiveOrZero = 0.0
    """0 = beam search; above 0 = sampling, with logits divided by this."""
    max_tokens: Tokens = 64
    """Longest target, its EOS included."""
    batch_size: BatchSize = 64
    """Sources decoded at once; limits memory."""


class TranslationConfig(Config):
    """Sequence-to-sequence training; loss on the target's tokens only."""

    steps: Steps = 1500
    """Optimiser steps."""
    batch_size: BatchSize = 64
    """Pairs of source and target per optimiser step."""
    learning_rate: LearningRate = 1e-3
    """Peak learning rate."""
    label_smoothing: ShareBelowOne = 0.1
    """Share of the probability that the loss wants spread over the whole vocabulary."""
    max_tokens: Tokens = 64
    """Of source and target each, EOS included; longer pairs are left out of training."""
    initial: Literal["pretrained", "random"] = "pretrained"
    """With a base model: its weights, or the same network with random ones."""
    decoding: DecodingConfig = DecodingConfig()
    alignments: CountOrZero = 4
    """Held-out translations that are published with the weights of attention."""
    tokens_per_microbatch: Count = 16384
    """Maximum tokens per forward and backward pass, padding included; limits memory only."""
    warmup_ratio: ShareBelowOne = 0.05
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
    checkpoint_steps: Steps = 500
    """Optimiser steps between checkpoints."""
