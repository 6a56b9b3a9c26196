"""Heads over the vocabulary: from the last hidden states of a causal model to its logits."""

from collections.abc import Callable
from typing import Any

import torch


def language_head(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Give what makes a model's logits of its last hidden states: (…, width) -> (…, vocab).

    Some models scale their logits or cap them softly behind the output layer, Granite, Cohere and
    Gemma among them; transformers does so within their forward pass, here it is done once more.
    """
    layer: Callable[[torch.Tensor], torch.Tensor] = model.get_output_embeddings()
    scale, cap = _scale(model.config), _cap(model.config)
    if scale == 1.0 and cap is None:
        return layer

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        scaled = layer(hidden) * scale
        return scaled if cap is None else torch.tanh(scaled / cap) * cap

    return logits


def _scale(config: Any) -> float:
    """What the logits are multiplied by; the names of the fields are transformers'."""
    for name in ("logit_scale", "lm_head_multiplier", "output_multiplier"):
        if isinstance(scale := getattr(config, name, None), int | float):
            return float(scale)
    scaling = getattr(config, "logits_scaling", None) or 1.0
    return float(scaling if config.model_type == "hyperclovax" else 1.0 / scaling)


def _cap(config: Any) -> float | None:
    cap = getattr(config, "final_logit_softcapping", None)
    return getattr(config, "logits_soft_cap", None) if cap is None else cap
