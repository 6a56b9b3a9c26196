"""Yardstick networks with random weights, by the name of their family."""

from collections.abc import Mapping
from typing import Any

from models.yardsticks.encoder_decoder import (
    FixedVectorConfig,
    FixedVectorForConditionalGeneration,
)
from models.yardsticks.feedforward import FeedForwardConfig, FeedForwardForCausalLM
from models.yardsticks.recurrent import RecurrentConfig, RecurrentForCausalLM
from models.yardsticks.rnnsearch import RnnSearchConfig, RnnSearchForConditionalGeneration


def build_yardstick(
    family: str,
    *,
    vocab_size: int,
    width: int,
    layers: int,
    context: int,
    ids: Mapping[str, int | None],
) -> Any:
    """Build a network; its weights are drawn from torch's global state.

    Args:
        family: feedforward, rnn, lstm, rnn_encoder_decoder or rnnsearch.
        width: Of embeddings and states.
        layers: Hidden or recurrent layers; of a translator those of the encoder.
        context: Most tokens of a row; no weight depends on it.
        ids: pad_token_id, eos_token_id and bos_token_id; a decoder begins with the EOS.
    """
    sizes: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "max_position_embeddings": context,
        **ids,
    }
    if family == "feedforward":
        return FeedForwardForCausalLM(FeedForwardConfig(**sizes))
    if family in ("rnn", "lstm"):
        return RecurrentForCausalLM(RecurrentConfig(cell=family, **sizes))
    sizes["decoder_start_token_id"] = ids["eos_token_id"]
    if family == "rnn_encoder_decoder":
        return FixedVectorForConditionalGeneration(FixedVectorConfig(**sizes))
    return RnnSearchForConditionalGeneration(RnnSearchConfig(**sizes))
