"""Which network is built from scratch, and how large."""

from typing import Literal

from pydantic import Field, model_validator

from models.config import Config


class ArchitectureConfig(Config):
    """A causal transformer language model, built from scratch."""

    family: Literal[
        "llama", "gpt2", "feedforward", "rnn", "lstm",
        "bart", "transformer", "rnn_encoder_decoder", "rnnsearch",
    ] = "llama"  # fmt: skip
    """llama: RMSNorm, SwiGLU, rotary positions; gpt2: LayerNorm, GELU, learned positions."""
    layers: int = Field(4, ge=1, le=1_000)
    """Number of transformer blocks."""
    width: int = Field(256, ge=8, le=65_536)
    """Hidden size."""
    heads: int = Field(4, ge=1, le=1_024)
    """Attention heads; must divide the width."""
    context: int = Field(256, ge=16, le=1_048_576, title="Context length")
    """Maximum tokens of a sequence, prompt and completion together."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ArchitectureConfig":
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} is not an even multiple of heads {self.heads}; "
                f"choose a width divisible by {2 * self.heads}"
            )
        return self
