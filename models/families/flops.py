"""Operations that a network computes a token with: 2 for each weight that it meets, and attention.

Products with weights and between queries, keys and values count, each as two operations; norms,
activations and softmaxes do not. Embeddings are looked up and cost nothing, the output layer does.
A mixture of experts counts the experts that compute a token. Attention counts every pair of
positions, those that a causal mask hides too, as in Chinchilla's and PaLM's figures.

Of a network of two parts a token is one of the source and one of the target together, both texts
equally long.

Sources: Kaplan et al., Scaling laws (2020), section 2.1 and table 1: 2 N forward, twice that
backward, 6 N in all; Hoffmann et al., Chinchilla (2022), appendix F.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

ONCE = ("pooler", "seq_relationship", "first_state")
"""Layers that compute once per text: BERT's next-sentence head, a decoder's first state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFlops:
    """Operations of a forward pass per token.

    Attributes:
        weights: Of multiplications by weights: 2 for each that computes a token.
        attention: Of multiplications between positions; grows with the text.
    """

    weights: float
    attention: float

    @property
    def forward(self) -> float:
        """Of a forward pass, as in scoring."""
        return self.weights + self.attention

    @property
    def training(self) -> float:
        """Of forward and backward pass, which costs twice as much."""
        return 3 * self.forward


def flops_per_token(network: Any, tokens: int) -> TokenFlops:
    """Count a network's operations per token of a text.

    Args:
        network: As `build_model` gives it, or a reward model on its trunk.
        tokens: Of the text, or of the part of a packed row that attention does not leave.
    """
    weights = 0.0
    for name, module in network.named_modules():
        times = 1 / tokens if any(part in name.split(".") for part in ONCE) else 1.0
        weights += times * _computing_weights(module)
    return TokenFlops(weights=2 * weights, attention=_attention(network.config, tokens))


def _computing_weights(module: Any) -> float:
    """The weights of one layer, not of those within, that meet each token."""
    if isinstance(module, nn.Linear | Conv1D):
        return float(module.weight.numel())
    own = dict(module.named_parameters(recurse=False))
    if isinstance(module, nn.RNNBase):
        return float(sum(one.numel() for name, one in own.items() if name.startswith("weight")))
    kind = type(module).__name__
    if kind.endswith("TopKRouter"):
        return float(module.weight.numel())
    if kind.endswith("Experts"):
        share = module.config.num_experts_per_tok / module.num_experts
        return float(share * sum(one.numel() for one in own.values() if one.dim() == 3))
    return 0.0


def _attention(config: Any, tokens: int) -> float:
    """Of one query's products with all keys, and of their weights with all values."""
    kind = config.model_type
    if kind == "quartet_rnnsearch":  # its score's vector meets each pair, and the states are summed
        return float(4 * tokens * config.hidden_size - 2 * config.hidden_size)
    if kind.startswith("quartet_"):
        return 0.0
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    layers = config.num_hidden_layers
    if config.is_encoder_decoder:  # the decoder attends twice
        layers = config.encoder_layers + 2 * config.decoder_layers
    return float(4 * layers * tokens * width)
