"""The configs of pretraining, supervised fine-tuning, best-of-n and DPO."""

import re
from typing import Annotated, Protocol, Self

from pydantic import Field, model_validator

from models.config import (
    BatchSize,
    BlockTokens,
    Config,
    Count,
    CountOrZero,
    LearningRate,
    Positive,
    PositiveOrZero,
    Precision,
    Share,
    ShareBelowOne,
    Steps,
)
from models.language.config import LoRAConfig, Turns
from models.objectives.config import DenoisingConfig, MaskingConfig

_WEIGHT = re.compile(r"\s*([\w. /-]*\w)\s*=\s*([0-9.]+(?:e-?[0-9]+)?)\s*", re.ASCII)


class OptimiserSettings(Protocol):
    """The fields that the configs of all trainings have."""

    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup_ratio(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def checkpoint_steps(self) -> int: ...
    @property
    def tokens_per_microbatch(self) -> int: ...
    @property
    def gradient_checkpointing(self) -> bool: ...
    @property
    def precision(self) -> Precision: ...


class SpikeConfig(Config):
    """What to do where the training loss leaps: go back, leave out those batches, continue."""

    recover: bool = False
    """Go back to the last checkpoint before a spike, skip the batches of the spike and continue;
    without it only a loss that is not finite stops the training."""
    window: int = Field(64, ge=8, le=10_000)
    """Recent losses, without those of spikes, that a loss is compared with."""
    deviations: Positive = 10.0
    """A loss counts as a spike so many robust standard deviations above the recent median."""
    patience: int = Field(1, ge=1, le=1_000)
    """So many such losses, one after the other, are a spike; one that is not finite always is."""
    batches_before: CountOrZero = 0
    """Batches right before a spike that are skipped with it: they may have caused it."""
    most: int = Field(10, ge=1, le=1_000, title="Maximum spikes")
    """With more spikes the training stops: its learning rate is too high, or its data broken."""


class PretrainConfig(Config):
    """Pretraining on the corpus: next-token prediction, or what fits the architecture's family."""

    steps: Steps = 2000
    """Optimiser steps."""
    batch_size: BatchSize = 16
    """Packed blocks per optimiser step; of masked language modelling and denoising rows."""
    start_batch_size: Annotated[int, Field(ge=0, le=65_536)] = 0
    """Those of the first step of a batch-size ramp; 0 = batch_size from the first step."""
    ramp_share: Share = 0.1
    """Share of the steps over which a batch that starts smaller grows to batch_size."""
    tokens_per_microbatch: Count = 16384
    """Maximum tokens per forward and backward pass; limits memory only."""
    block_tokens: BlockTokens = 128
    """Tokens per packed block, most tokens of a row; at most the model's context length."""
    bounded_documents: bool = False
    """Causal families attend within a document only, though several share a block; held-out
    documents are measured likewise."""
    mixture: str = ""
    """Shares of the tokens by the source of the corpus's rows, such as captions=0.7, reviews=0.3;
    empty = every row once per epoch."""
    learning_rate: LearningRate = 2e-3
    """Peak learning rate."""
    warmup_ratio: ShareBelowOne = 0.05
    """Share of the steps with a rising learning rate; then cosine decay to 10%."""
    weight_decay: PositiveOrZero = 0.1
    """Of AdamW, on matrices only."""
    decay_embeddings: bool = True
    """Whether weight decay counts embeddings as matrices; recipes of large runs leave them out."""
    max_grad_norm: Positive = 1.0
    """Clips the global gradient norm."""
    precision: Precision = "auto"
    """Of the weights; auto = float32, computing in bfloat16 if the GPU supports it. With bfloat16
    the optimiser keeps float32 masters, which are published."""
    gradient_checkpointing: bool = False
    """Recompute activations to save memory."""
    checkpoint_steps: Steps = 500
    """Optimiser steps between checkpoints."""
    masking: MaskingConfig = MaskingConfig()
    denoising: DenoisingConfig = DenoisingConfig()
    spikes: SpikeConfig = SpikeConfig()

    @property
    def weights(self) -> dict[str, float]:
        """Weights by source; none without a mixture."""
        parts = [part for part in self.mixture.split(",") if part.strip()]
        found = [_WEIGHT.fullmatch(part) for part in parts]
        return {one[1]: float(one[2]) for one in found if one}

    @model_validator(mode="after")
    def _ramp_grows(self) -> Self:
        if self.start_batch_size > self.batch_size:
            raise ValueError(
                f"start_batch_size {self.start_batch_size} exceeds batch_size {self.batch_size}; "
                "a ramp grows: lower start_batch_size or raise batch_size"
            )
        return self

    @model_validator(mode="after")
    def _mixture_names_sources(self) -> Self:
        parts = [part for part in self.mixture.split(",") if part.strip()]
        if len(self.weights) < len(parts) or not all(self.weights.values()):
            raise ValueError(
                f"mixture {self.mixture!r} is no list of different sources with a weight above 0 "
                "each; wanted such as captions=0.7, reviews=0.3"
            )
        return self


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
