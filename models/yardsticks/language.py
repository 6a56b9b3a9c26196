"""What the neural yardsticks share: their initial weights, and a language model around a trunk.

They are models of transformers like others: `base_model` gives the last hidden states,
`get_output_embeddings` the logits. Input and output embeddings are tied (Press and Wolf, Using the
Output Embedding to Improve Language Models, 2017), as in the Transformers beside them. They attend
to nothing, so a packed row is taken apart again, and decoding computes rows again for each token.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutput


@strict
class LanguageConfig(PreTrainedConfig):  # type: ignore[misc]
    """The sizes of a neural yardstick language model."""

    vocab_size: int = 4096
    hidden_size: int = 256
    num_hidden_layers: int = 1
    max_position_embeddings: int = 256
    quartet_row_layout: str = "repeated"
    use_cache: bool = False
    tie_word_embeddings: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None


class Yardstick(PreTrainedModel):  # type: ignore[misc]
    """A network of the years before attention."""

    base_model_prefix = "model"
    embed_tokens: nn.Embedding

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Look tokens up, (batch, seq, width), about 1 in size where the logits' table is small.

        Source: Vaswani et al., Attention is all you need (2017), section 3.4.
        """
        scaled: torch.Tensor = self.embed_tokens(input_ids) * self.config.hidden_size**0.5
        return scaled

    def _init_weights(self, module: nn.Module) -> None:
        """Draw a module's weights.

        Embeddings have length 1 in the mean, so that tied logits begin small; recurrent weights
        are orthogonal, others Glorot's; biases 0, but for an LSTM's forget gate 1.

        Source: Glorot and Bengio (2010), equation 16; Saxe et al. (2014), section 3; Jozefowicz et
        al., An Empirical Exploration of Recurrent Network Architectures (2015), section 2.2.
        """
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, nn.Linear | nn.RNNBase | nn.RNNCellBase):
            for name, weight in module.named_parameters(recurse=False):
                if name.startswith("bias"):
                    begin = torch.zeros_like(weight)
                    if isinstance(module, nn.LSTM) and name.startswith("bias_ih"):
                        begin[module.hidden_size : 2 * module.hidden_size] = 1.0
                    init.copy_(weight, begin)
                elif name.startswith("weight_hh"):
                    init.orthogonal_(weight)
                else:
                    init.xavier_uniform_(weight)


class YardstickForCausalLM(Yardstick, GenerationMixin):  # type: ignore[misc]
    """Next-token prediction on the hidden states of a trunk, `model`."""

    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "model.embed_tokens.weight"}
    trunk: type[Yardstick]

    def __init__(self, config: Any) -> None:
        """Build the network of a config."""
        super().__init__(config)
        self.model = self.trunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        cu_seq_lens_q: torch.Tensor | None = None,
        **loss_arguments: Any,
    ) -> CausalLMOutput:
        """Compute logits, (batch, seq, vocab), and with labels the mean loss.

        Args:
            attention_mask: Of no effect: padding stands behind a row, and no token sees later ones.
            cu_seq_lens_q: Of a single packed row, (parts + 1,): where its parts begin, and the end.
            loss_arguments: As transformers' causal models take them: num_items_in_batch.
        """
        if cu_seq_lens_q is None:
            hidden = self.model(input_ids).last_hidden_state
        else:
            hidden = self._hidden_of(torch.split(input_ids[0], cu_seq_lens_q.diff().tolist()))[None]
        logits = self.lm_head(hidden)
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits, labels, vocab_size=self.config.vocab_size, **loss_arguments
            )
        return CausalLMOutput(loss=loss, logits=logits)

    def _hidden_of(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Run the trunk on each part alone, neighbours of like length together; (tokens, width)."""
        found: list[torch.Tensor] = []
        for _, run in groupby(parts, key=lambda part: len(part).bit_length()):
            rows = list(run)
            hidden = self.model(pad_sequence(rows, batch_first=True)).last_hidden_state
            found += [one[: len(row)] for one, row in zip(hidden, rows, strict=True)]
        return torch.cat(found)
