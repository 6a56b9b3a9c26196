"""The feed-forward neural language model: a hidden layer over the last few tokens' embeddings.

    x = (C(w[t-n+1]), …, C(w[t])),   h = tanh(d + H x),   p(w[t+1]) = softmax(b + U h)

Source: Bengio et al., A Neural Probabilistic Language Model (2003), section 2. What differs: U and
C are one matrix; the direct connections from x to the logits are left out, without which the paper
generalised better (section 4.2); more hidden layers than one are possible, each added to what it
reads.
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_outputs import BaseModelOutput

from models.yardsticks.language import LanguageConfig, Yardstick, YardstickForCausalLM


@strict
class FeedForwardConfig(LanguageConfig):
    """Sizes of a feed-forward language model."""

    model_type = "quartet_feedforward"
    window: int = 5
    """Tokens that the next one is predicted from; the paper's best models saw 4 and 5."""


class FeedForwardModel(Yardstick):
    """The hidden layers."""

    config_class = FeedForwardConfig

    def __init__(self, config: FeedForwardConfig) -> None:
        """Build the layers of a config."""
        super().__init__(config)
        width = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, width)
        inputs = [config.window * width] + [width] * (config.num_hidden_layers - 1)
        self.layers = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, **given: Any) -> BaseModelOutput:
        """Compute hidden states, (batch, seq, width); before a row there are zeros."""
        window = self.config.window
        embedded = self.embed(input_ids)
        padded = nn.functional.pad(embedded, (0, 0, window - 1, 0))
        hidden = padded.unfold(1, window, 1).flatten(2)  # (batch, seq, width * window)
        first, *others = self.layers
        hidden = torch.tanh(first(hidden))
        for layer in others:
            hidden = hidden + torch.tanh(layer(hidden))
        return BaseModelOutput(last_hidden_state=hidden)


class FeedForwardForCausalLM(YardstickForCausalLM):
    """The language model."""

    config_class = FeedForwardConfig
    trunk = FeedForwardModel


AutoConfig.register(FeedForwardConfig.model_type, FeedForwardConfig)
AutoModelForCausalLM.register(FeedForwardConfig, FeedForwardForCausalLM)
