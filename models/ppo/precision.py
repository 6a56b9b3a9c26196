"""In which precision the networks run forward. Weights, logprobs, ratios and losses are float32."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from models.ppo.config import PPOConfig


def forward_precision(config: PPOConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bfloat16 where it is asked for, or where it is left open and a GPU has it.

    One context covers forward passes with or without gradients, never both, and no optimiser step:
    autocast keeps the cast weights until it ends.
    """
    wanted = config.precision == "bfloat16" or (
        config.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()
