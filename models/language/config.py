"""The configs of language models: tokenizer, architecture, existing base model, sampling."""

from typing import Literal

from pydantic import Field, PositiveFloat, model_validator

from models.config import Config, Count


class TokenizerConfig(Config):
    """A byte-level BPE trained on the corpus."""

    vocab_size: int = Field(4096, ge=300, title="Vocabulary size")
    """Most tokens in the vocabulary, special tokens and the 256 bytes included."""
    min_frequency: Count = Field(2, title="Minimum pair frequency")
    """A merge must have been seen this often in the corpus."""


class ArchitectureConfig(Config):
    """A causal language model of transformers, built from a config."""

    family: Literal["llama", "gpt2"] = Field("llama", title="Architecture")
    """llama: RMSNorm, SwiGLU, rotary positions. gpt2: LayerNorm, GELU, learned."""
    layers: Count = 4
    """Transformer blocks."""
    width: int = Field(256, ge=8)
    """Hidden size."""
    heads: Count = Field(4, title="Attention heads")
    """Must divide width."""
    context: int = Field(256, ge=16, title="Context length")
    """Most tokens of one sequence, prompt and completion together."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ArchitectureConfig":
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} is not an even multiple of heads {self.heads}; "
                f"choose a width divisible by {2 * self.heads}"
            )
        return self


class BaseModelConfig(Config):
    """An existing base model; empty: pretrain one from scratch."""

    source: str = Field("", title="Base model")
    """Stage, models:/NAME@ALIAS, folder or hub id; empty pretrains from scratch."""
    revision: str = ""
    """Branch, tag or commit of a hub id; empty is the main branch."""

    @property
    def name(self) -> str:
        """Source and revision in one word, id@revision."""
        return f"{self.source}@{self.revision}" if self.revision else self.source


class SamplingConfig(Config):
    """Plain temperature sampling: top-p and top-k would make logprobs of another distribution."""

    temperature: PositiveFloat = 1.0
    """Divides the logits in sampling and in every logprob."""
    max_completion_tokens: Count = Field(64, title="Longest completion")
    """Tokens, EOS included; a completion cut here has no EOS."""
    min_completion_tokens: Count = Field(1, title="Shortest completion")
    """Tokens, EOS included; EOS has no probability before."""
    batch_size: Count = Field(256, title="Sampling batch")
    """Completions sampled at once; bounds memory."""

    @model_validator(mode="after")
    def _shortest_fits_longest(self) -> "SamplingConfig":
        if self.min_completion_tokens > self.max_completion_tokens:
            raise ValueError(
                f"min_completion_tokens {self.min_completion_tokens} exceeds max_completion_tokens "
                f"{self.max_completion_tokens}; lower the one or raise the other"
            )
        return self
