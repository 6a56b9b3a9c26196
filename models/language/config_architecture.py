"""What a network built from scratch looks like."""

from typing import Literal

from pydantic import Field, model_validator

from models.config import Config


class TokenizerConfig(Config):
    """A byte-level BPE trained on the corpus."""

    vocab_size: int = Field(
        default=4096,
        ge=300,
        title="Vocabulary size",
        description="Most tokens in the vocabulary, special tokens and the 256 bytes included.",
    )
    min_frequency: int = Field(
        default=2,
        ge=1,
        title="Minimum pair frequency",
        description="A merge must have been seen this often in the corpus.",
    )


class ArchitectureConfig(Config):
    """A causal language model of transformers, built from a config."""

    family: Literal["llama", "gpt2"] = Field(
        default="llama",
        title="Architecture",
        description="llama: RMSNorm, SwiGLU, rotary positions. gpt2: LayerNorm, GELU, learned.",
    )
    layers: int = Field(default=4, ge=1, title="Layers", description="Transformer blocks.")
    width: int = Field(default=256, ge=8, title="Width", description="Hidden size.")
    heads: int = Field(default=4, ge=1, title="Attention heads", description="Must divide width.")
    context: int = Field(
        default=256,
        ge=16,
        title="Context length",
        description="Most tokens of one sequence, prompt and completion together.",
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ArchitectureConfig":
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} is not an even multiple of heads {self.heads}; "
                f"choose a width divisible by {2 * self.heads}"
            )
        return self
