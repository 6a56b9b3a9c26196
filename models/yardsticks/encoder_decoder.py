"""The RNN encoder-decoder: a sentence becomes one vector of fixed length, a sentence is made of it.

    c = h[last],   s[0] = tanh(W c),   c[t] = c

The vector goes into every step of the decoder and into every prediction.

Source: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder (2014), section 2.2
and appendix A; Sutskever et al., Sequence to Sequence Learning with Neural Networks (2014), gives
it to the first step only and reads the source backwards.
"""

import torch
from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from models.yardsticks.translator import Translator, TranslatorConfig


@strict
class FixedVectorConfig(TranslatorConfig):
    """Sizes of an RNN encoder-decoder."""

    model_type = "quartet_encoder_decoder"


class FixedVectorForConditionalGeneration(Translator):
    """The network."""

    config_class = FixedVectorConfig
    both_ways = False

    def begin(self, source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """tanh(W c), (batch, width)."""
        return torch.tanh(self.first_state(_last(source, mask)))

    def decode(
        self, state: torch.Tensor, embedded: torch.Tensor, source: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """All steps at once, for their context is the same."""
        contexts = _last(source, mask)[:, None].expand_as(embedded)
        states, _ = self.cell(torch.cat([embedded, contexts], dim=-1), state[None].contiguous())
        return states, contexts, None


def _last(source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The encoder's state at the end of each row, (batch, width)."""
    return source[torch.arange(len(source), device=source.device), mask.sum(1) - 1]


AutoConfig.register(FixedVectorConfig.model_type, FixedVectorConfig)
AutoModelForSeq2SeqLM.register(FixedVectorConfig, FixedVectorForConditionalGeneration)
