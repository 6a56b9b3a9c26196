"""What the two recurrent translators share: all but where a step's context comes from.

    h = encoder(x)                                           (source, width)
    s[t] = GRU([E(y[t-1]); c[t]], s[t-1])                    the decoder's state
    p(y[t]) = softmax(E tanh(P [s[t]; E(y[t-1]); c[t]]))     tied to the embeddings E

`encoder_decoder` has one c for the sentence, `rnnsearch` one for each step. They are
sequence-to-sequence models of transformers: training, `generate` (beam search and sampling) and
folders work as with BART. What generation keeps between steps is s, nothing else.

Source: Cho et al. (2014) and Bahdanau et al. (2015), as named in the two modules. What differs:
embeddings are tied, and tanh stands for the maxout layer before the softmax.
"""

from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from models.yardsticks.language import Yardstick


@strict
class TranslatorConfig(PreTrainedConfig):  # type: ignore[misc]
    """The sizes of a recurrent translator."""

    vocab_size: int = 4096
    hidden_size: int = 256
    num_hidden_layers: int = 1
    max_position_embeddings: int = 256
    is_encoder_decoder: bool = True
    use_cache: bool = True
    tie_word_embeddings: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None
    decoder_start_token_id: int | None = None


class Encoder(Yardstick):
    """GRUs over the source, in one direction or both; whatever is padding stays out of them.

    From the second on, a layer's output is added to its input.
    """

    main_input_name = "input_ids"

    def __init__(self, config: Any, embed_tokens: nn.Embedding, *, both_ways: bool) -> None:
        """Build it on the embeddings of the translator."""
        super().__init__(config)
        self.embed_tokens = embed_tokens
        width = config.hidden_size
        size = width // 2 if both_ways else width
        self.layers = nn.ModuleList(
            nn.GRU(width, size, batch_first=True, bidirectional=both_ways)
            for _ in range(config.num_hidden_layers)
        )

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **given: Any
    ) -> BaseModelOutput:
        """Read the source.

        Args:
            attention_mask: (batch, source), padding on the right.

        Returns:
            (batch, source, width) states, 0 at padding.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = nn.utils.rnn.pack_padded_sequence(
            self.embed(input_ids), mask.sum(1).cpu(), batch_first=True, enforce_sorted=False
        )
        first, *others = self.layers
        states, _ = first(rows)
        for layer in others:
            states = states._replace(data=states.data + layer(states)[0].data)
        padded, _ = nn.utils.rnn.pad_packed_sequence(
            states, batch_first=True, total_length=input_ids.shape[1]
        )
        return BaseModelOutput(last_hidden_state=padded)


class Translator(Yardstick, GenerationMixin):  # type: ignore[misc]
    """Encoder and decoder; a subclass gives the context of each step."""

    base_model_prefix = ""
    main_input_name = "input_ids"
    both_ways: bool
    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "encoder.embed_tokens.weight": "embed_tokens.weight",
        "lm_head.weight": "embed_tokens.weight",
    }

    def __init__(self, config: Any) -> None:
        """Build the network of a config."""
        super().__init__(config)
        width = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, width)
        self.encoder = Encoder(config, self.embed_tokens, both_ways=self.both_ways)
        self.first_state = nn.Linear(width, width)
        self.cell = nn.GRU(2 * width, width, batch_first=True)
        self.project = nn.Linear(3 * width, width)
        self.lm_head = nn.Linear(width, config.vocab_size)
        self.build_context(width)
        self.post_init()

    def build_context(self, width: int) -> None:
        """Make the layers of `decode`."""

    def decode(
        self, state: torch.Tensor, embedded: torch.Tensor, source: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Run the decoder over the tokens before those that it predicts.

        Args:
            state: (batch, width), s before them.
            embedded: (batch, target, width).
            source: (batch, source, width), what the encoder gave.
            mask: (batch, source) bool.

        Returns:
            States and contexts, (batch, target, width) each, and the weights of attention,
            (batch, target, source), where there is any.
        """
        raise NotImplementedError

    def begin(self, source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The decoder's state before the first token, (batch, width)."""
        raise NotImplementedError

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: torch.Tensor | None = None,
        **others: Any,
    ) -> Seq2SeqLMOutput:
        """Compute logits, (batch, target, vocab).

        Args:
            input_ids: (batch, source), unless `encoder_outputs` are there.
            attention_mask: (batch, source), padding on the right.
            decoder_input_ids: (batch, target), those before the predicted ones.
            past_key_values: (batch, width), s before these; at the beginning None.

        Returns:
            With them `cross_attentions`, a layer and a head of (batch, 1, target, source), where
            there is attention; and in `past_key_values` the newest s.
        """
        assert decoder_input_ids is not None
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask)
        source = encoder_outputs[0]
        mask = source.new_ones(source.shape[:2]) if attention_mask is None else attention_mask
        mask = mask.bool()
        embedded = self.embed(decoder_input_ids)
        state = self.begin(source, mask) if past_key_values is None else past_key_values
        states, contexts, weights = self.decode(state, embedded, source, mask)
        hidden = torch.tanh(self.project(torch.cat([states, embedded, contexts], dim=-1)))
        return Seq2SeqLMOutput(
            logits=self.lm_head(hidden),
            past_key_values=states[:, -1],
            cross_attentions=None if weights is None else (weights[:, None],),
            encoder_last_hidden_state=source,
        )

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, past_key_values: Any = None, **given: Any
    ) -> dict[str, Any]:
        """Give `forward` the newest tokens only, once there is a state."""
        newest = input_ids if past_key_values is None else input_ids[:, -1:]
        kept = ("attention_mask", "encoder_outputs", "output_attentions")
        return {
            "decoder_input_ids": newest,
            "past_key_values": past_key_values,
            **{name: given[name] for name in kept if name in given},
        }

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the state is all that is kept

    def _reorder_cache(self, state: torch.Tensor, beams: torch.Tensor) -> torch.Tensor:
        return state.index_select(0, beams)
