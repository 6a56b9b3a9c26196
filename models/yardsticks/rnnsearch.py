"""RNNsearch: the decoder looks for the source tokens that the next word needs, by attention.

    e[t, j] = v · tanh(W s[t-1] + U h[j])
    a[t, j] = softmax over j of e[t, j],   c[t] = sum over j of a[t, j] h[j]

h[j] is what a forward and a backward GRU say of token j; s[0] = tanh(W' h[1]). The weights
a are returned as transformers' models return theirs, `cross_attentions`.

Source: Bahdanau et al., Neural Machine Translation by Jointly Learning to Align and Translate
(2015), section 3 and appendix A.1.2 and A.2.2.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from models.yardsticks.translator import Translator, TranslatorConfig


@strict
class RnnSearchConfig(TranslatorConfig):
    """Sizes of an RNNsearch; the encoder's two directions have half the width each."""

    model_type = "quartet_rnnsearch"


class RnnSearchForConditionalGeneration(Translator):
    """The network."""

    config_class = RnnSearchConfig
    both_ways = True

    def build_context(self, width: int) -> None:
        """W, U and v of the score."""
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def begin(self, source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """tanh(W' h[1]), (batch, width), in which the backward GRU has read the whole source."""
        return torch.tanh(self.first_state(source[:, 0]))

    def decode(
        self, state: torch.Tensor, embedded: torch.Tensor, source: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Step by step: what is looked for depends on the state before."""
        keys = self.key(source)
        closed = ~mask
        states, contexts, weights = [], [], []
        for token in embedded.unbind(1):
            scores = self.score(torch.tanh(self.query(state)[:, None] + keys)).squeeze(-1)
            attention = scores.masked_fill(closed, float("-inf")).softmax(-1)  # (batch, source)
            context = torch.bmm(attention[:, None], source).squeeze(1)
            step = torch.cat([token, context], dim=-1)
            state = self.cell(step[:, None], state[None])[1][0]
            states.append(state)
            contexts.append(context)
            weights.append(attention)
        return torch.stack(states, 1), torch.stack(contexts, 1), torch.stack(weights, 1)


AutoConfig.register(RnnSearchConfig.model_type, RnnSearchConfig)
AutoModelForSeq2SeqLM.register(RnnSearchConfig, RnnSearchForConditionalGeneration)
