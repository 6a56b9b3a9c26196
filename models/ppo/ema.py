"""The exponential moving average of the weights that learn."""

from typing import Any

import torch

from models.ppo.networks import learned_state


class MovingAverage:
    """average = decay * average + (1 - decay) * weights, after each optimiser step."""

    def __init__(self, network: Any, decay: float) -> None:
        """Start from the network's present weights."""
        self._decay = decay
        self.weights = {name: tensor.clone() for name, tensor in learned_state(network).items()}

    @torch.no_grad()
    def update(self, network: Any) -> None:
        """Take one step towards the network."""
        new = learned_state(network)
        for name, average in self.weights.items():
            average.lerp_(new[name], 1.0 - self._decay)
