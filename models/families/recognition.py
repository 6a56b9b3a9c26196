"""Models that cannot go through SFT, sampling and PPO, told by config.json. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from models.errors import ModelError

ENCODERS = (
    "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "mobilebert",
    "modernbert", "mpnet", "roberta", "squeezebert", "xlm-roberta",
)  # fmt: skip
"""Types of transformers' models that read both sides of a token, unless they are decoders."""

OWN = "quartet_"
"""Begins the types of the yardsticks' networks."""


def refuse_other_kind(name: str, config: Mapping[str, Any]) -> None:
    """Make sure that a model may predict the next token.

    Args:
        name: What a message calls it.
        config: Its config.json.

    Raises:
        ModelError: It is an encoder, or writes one text from another.
    """
    kind = str(config.get("model_type", "model"))
    if config.get("is_encoder_decoder") is True:
        _refuse(name, kind, "writes one text from another and does not continue a prompt")
    if kind in ENCODERS and config.get("is_decoder") is not True:
        _refuse(name, kind, "sees both sides of a token, so it can neither be sampled from nor "
                            "have the logprobs of PPO")  # fmt: skip


def refuse_unaligned_model(name: str, config: Mapping[str, Any]) -> None:
    """Make sure that a model may go through SFT, sampling and PPO; see `refuse_other_kind`.

    Raises:
        ModelError: It does not predict the next token, or is a yardstick.
    """
    refuse_other_kind(name, config)
    kind = str(config.get("model_type", "model"))
    if kind.startswith(OWN):
        _refuse(name, kind, "is a yardstick to compare with, without what sampling and PPO need")


def _refuse(name: str, kind: str, why: str) -> None:
    raise ModelError(
        f"{name} is a {kind}, which {why}; a Transformer that predicts the next token was wanted, "
        "such as Llama, GPT-2 or Mixtral: choose one, and use this one in `quartet run "
        "foundations` or as the base of a reward model"
    )
