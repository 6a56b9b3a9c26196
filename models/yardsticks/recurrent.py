"""Recurrent language models: Elman's network, and the LSTM.

    Elman:  h[t] = tanh(W x[t] + U h[t-1] + b)
    LSTM:   i, f, o = sigmoid(W x[t] + U h[t-1] + b) each,  g = tanh(W x[t] + U h[t-1] + b)
            c[t] = f c[t-1] + i g,   h[t] = o tanh(c[t])

Each layer is PyTorch's; from the second on, a layer's output is added to its input, without which
deep stacks hardly learn (Wu et al., Google's Neural Machine Translation System, 2016, section 3.1).
A block of the corpus begins with the state 0, as a Transformer's block begins with no keys.

Source: Elman, Finding Structure in Time (1990); Mikolov et al., Recurrent Neural Network Based
Language Model (2010); Hochreiter and Schmidhuber, Long Short-Term Memory (1997), with the forget
gate of Gers et al. (2000).
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_outputs import BaseModelOutput

from models.yardsticks.language import LanguageConfig, Yardstick, YardstickForCausalLM


@strict
class RecurrentConfig(LanguageConfig):
    """Sizes of a recurrent language model, and its kind of cell: rnn or lstm."""

    model_type = "quartet_recurrent"
    cell: str = "lstm"


class RecurrentModel(Yardstick):
    """The recurrent layers."""

    config_class = RecurrentConfig

    def __init__(self, config: RecurrentConfig) -> None:
        """Build the layers of a config."""
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        kind = nn.LSTM if config.cell == "lstm" else nn.RNN
        self.layers = nn.ModuleList(
            kind(config.hidden_size, config.hidden_size, batch_first=True)
            for _ in range(config.num_hidden_layers)
        )
        self.post_init()

    def forward(self, input_ids: torch.Tensor, **given: Any) -> BaseModelOutput:
        """Compute hidden states, (batch, seq, width)."""
        first, *others = self.layers
        hidden = first(self.embed(input_ids))[0]
        for layer in others:
            hidden = hidden + layer(hidden)[0]
        return BaseModelOutput(last_hidden_state=hidden)


class RecurrentForCausalLM(YardstickForCausalLM):
    """The language model."""

    config_class = RecurrentConfig
    trunk = RecurrentModel


AutoConfig.register(RecurrentConfig.model_type, RecurrentConfig)
AutoModelForCausalLM.register(RecurrentConfig, RecurrentForCausalLM)
