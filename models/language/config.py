"""The configs of language models: tokenizer, base model, adapters, sampling."""

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from models.config import BatchSize, Config, Count, Positive, Tokens

Turns: TypeAlias = Literal["all", "last"]
"""Which of the assistant's turns a demonstration teaches."""

WORDPIECE_LEAST = 600
"""Tokens of its smallest vocabulary."""


class TokenizerConfig(Config):
    """A tokenizer trained on the corpus."""

    kind: Literal["byte_bpe", "wordpiece", "unigram"] = "byte_bpe"
    """byte_bpe: merges, as in GPT-2; wordpiece: the longest piece first, as in BERT; unigram: the
    likeliest pieces, as in ALBERT. All work on bytes, so that every text comes back exactly."""
    vocab_size: int = Field(4096, ge=300, le=1_000_000)
    """Maximum number of tokens, including special tokens and the 256 bytes."""
    min_frequency: Count = 2
    """How often a pair must occur in the corpus to be merged; without effect on unigram."""
    mask: bool = Field(False, title="Masking tokens")
    """Adds the tokens mask, cls and sep, which bert and bart need."""

    @model_validator(mode="after")
    def _bytes_fit(self) -> "TokenizerConfig":
        if self.kind == "wordpiece" and self.vocab_size < WORDPIECE_LEAST:
            raise ValueError(
                f"vocab_size {self.vocab_size} is too small for wordpiece, which has each byte "
                f"twice, as the beginning of a word and within it; choose at least "
                f"{WORDPIECE_LEAST}, or kind byte_bpe"
            )
        return self


class BaseModelConfig(Config):
    """An existing base model; an empty source pretrains one from scratch."""

    source: str = ""
    """stage/DIGEST, models:/NAME@ALIAS, folder or hub id; empty = pretrain from scratch."""
    revision: str = ""
    """Branch, tag or commit of a hub id; empty = the main branch."""
    adapter: str = ""
    """Folder or hub id of a LoRA adapter to merge into the source; empty = none."""

    @property
    def name(self) -> str:
        """Source and revision in one word, id@revision."""
        return f"{self.source}@{self.revision}" if self.revision else self.source


class LoRAConfig(Config):
    """Low-rank adapters on every linear layer of the trunk; all other weights are frozen."""

    rank: int = Field(16, ge=1, le=65_536)
    """Rank of the adapters."""
    alpha: Positive = 32.0
    """The adapters' output is scaled by alpha / rank."""


class SamplingConfig(Config):
    """Temperature sampling; top-p or top-k would change the distribution of the logprobs."""

    temperature: Positive = 1.0
    """Divides the logits, in sampling and in every logprob."""
    max_completion_tokens: Tokens = 64
    """Including EOS; a completion cut at this length has no EOS."""
    min_completion_tokens: Tokens = 1
    """Including EOS; EOS has probability 0 before this length."""
    batch_size: BatchSize = 256
    """Completions sampled at once; limits memory."""

    @model_validator(mode="after")
    def _shortest_fits_longest(self) -> "SamplingConfig":
        if self.min_completion_tokens > self.max_completion_tokens:
            raise ValueError(
                f"min_completion_tokens {self.min_completion_tokens} exceeds max_completion_tokens "
                f"{self.max_completion_tokens}; lower the one or raise the other"
            )
        return self
