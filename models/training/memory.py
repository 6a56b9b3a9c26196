"""What training holds in memory, and how it is made less: recomputed activations."""

from typing import Any

from models.errors import ModelError


def recompute_activations(network: Any) -> None:
    """Let a network in training mode compute each layer again instead of keeping it for gradients.

    Raises:
        ModelError: Its kind cannot.
    """
    if not network.supports_gradient_checkpointing:
        raise ModelError(
            f"{type(network).__name__} cannot recompute its activations, but "
            "gradient_checkpointing is on; set it to false and lower tokens_per_microbatch, or "
            "choose another model"
        )
    network.activation_checkpointing_enable({"use_reentrant": False})
