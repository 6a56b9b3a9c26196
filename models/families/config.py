"""Which network is built from scratch, and how large."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from pydantic import Field, model_validator

from models.config import Config
from models.families.shapes import SHAPES, ShapeName

Family: TypeAlias = Literal[
    "llama", "gpt2", "mixtral", "feedforward", "rnn", "lstm",
    "bert",
    "bart", "transformer", "rnn_encoder_decoder", "rnnsearch",
]  # fmt: skip
Kind: TypeAlias = Literal["causal", "masked", "seq2seq"]

YARDSTICKS = ("feedforward", "rnn", "lstm", "rnn_encoder_decoder", "rnnsearch")
"""Families from before the Transformer: to compare with, not to align."""

GROUPED = ("llama", "mixtral")
"""Families whose heads may share keys and values."""


def kind_of(family: str) -> Kind:
    """Say what a family learns: the next token, masked tokens, or one text from another."""
    if family == "bert":
        return "masked"
    seq2seq = ("bart", "transformer", "rnn_encoder_decoder", "rnnsearch")
    return "seq2seq" if family in seq2seq else "causal"


class ArchitectureConfig(Config):
    """A network, built from scratch."""

    family: Family = "llama"
    """llama: RMSNorm, SwiGLU, rotary positions; gpt2: LayerNorm, GELU, learned positions; mixtral:
    llama with a mixture of experts; bert: an encoder; bart, transformer (of 2017): encoder and
    decoder; the others: yardsticks from before the Transformer, which are not aligned."""
    shape: ShapeName = ""
    """A size (nano to 1b) or a published shape, with its family; it fills in the fields that are
    not given."""
    layers: int = Field(4, ge=1, le=1_000)
    """Number of transformer blocks; of encoder and decoder each."""
    width: int = Field(256, ge=8, le=65_536)
    """Hidden size."""
    heads: int = Field(4, ge=1, le=1_024)
    """Attention heads; must divide the width."""
    context: int = Field(256, ge=16, le=1_048_576, title="Context length")
    """Maximum tokens of a sequence, prompt and completion together."""
    feed_forward: int = Field(0, ge=0, le=1_048_576, title="Feed-forward width")
    """Of the layers between attention; 0 = the family's own: llama and mixtral 8/3 of the width, up
    to a multiple of 16, the others 4 times the width."""
    key_value_heads: int = Field(0, ge=0, le=1_024)
    """Of llama and mixtral: heads that the others share keys and values of; 0 = each its own."""
    experts: int = Field(8, ge=2, le=1_024)
    """Of mixtral: feed-forward layers per block."""
    experts_per_token: int = Field(2, ge=1, le=1_024)
    """Of mixtral: how many of them compute a token."""
    tied: bool = Field(True, title="Tied embeddings")
    """Whether the output layer is the table of input embeddings."""

    @property
    def inner_width(self) -> int:
        """Width of the feed-forward layers, each expert's."""
        own = -(-self.width * 8 // 3 // 16) * 16 if self.family in GROUPED else 4 * self.width
        return self.feed_forward or own

    @property
    def shared_heads(self) -> int:
        """Heads that have keys and values of their own."""
        return self.key_value_heads or self.heads

    def refuse_unaligned(self) -> None:
        """Make sure that the network can go through SFT, reward modelling and PPO.

        Raises:
            ValueError: It is no Transformer that predicts the next token.
        """
        if kind_of(self.family) != "causal" or self.family in YARDSTICKS:
            raise ValueError(
                f"model.family is {self.family}, but SFT, sampling and PPO need a Transformer that "
                "predicts the next token; choose llama, gpt2 or mixtral, and compare the other "
                "families with `quartet run foundations`"
            )

    @staticmethod
    def make_room(values: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        """Drop a preset's sizes, in place, where a shape is asked for that fills them in.

        Args:
            values: The preset's, with the group `model`.
            given: What overrides them, with the same group if anything in it is set.
        """
        for name in SHAPES.get(str(given.get("model", {}).get("shape")), ()):
            values.get("model", {}).pop(name, None)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_shape(cls, given: Any) -> Any:
        name = given.get("shape") if isinstance(given, Mapping) else None
        if not isinstance(name, str) or name not in SHAPES:
            return given  # nothing to fill in, or a name that its field refuses
        shape = SHAPES[name]
        family = shape.get("family", given.get("family"))
        if given.get("family", family) != family:
            raise ValueError(
                f"shape {name} is of family {family}, got family {given['family']}; choose a size "
                f"(nano to 1b) for that family, or leave the family out"
            )
        return {**shape, **given}

    @model_validator(mode="after")
    def _parts_fit_together(self) -> "ArchitectureConfig":
        if self.family not in YARDSTICKS and self.width % (2 * self.heads):
            raise ValueError(
                f"width {self.width} is not an even multiple of heads {self.heads}; "
                f"choose a width divisible by {2 * self.heads}"
            )
        if self.key_value_heads and self.family not in GROUPED:
            raise ValueError(
                f"key_value_heads is {self.key_value_heads}, but in {self.family} each head has "
                "its own keys and values; set 0, or choose llama or mixtral"
            )
        if self.heads % self.shared_heads:
            raise ValueError(
                f"key_value_heads {self.key_value_heads} does not divide heads {self.heads}; "
                "choose a divisor, or 0"
            )
        if self.family == "mixtral" and self.experts_per_token > self.experts:
            raise ValueError(
                f"experts_per_token {self.experts_per_token} exceeds experts {self.experts}; lower "
                "the one or raise the other"
            )
        if not self.tied and self.family not in (*GROUPED, "gpt2"):
            raise ValueError(
                f"tied is false, but {self.family} is built with tied embeddings only; leave it "
                "true, or choose llama, mixtral or gpt2"
            )
        return self
