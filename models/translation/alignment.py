"""What a model looks at for each word that it writes: the weights of attention, by words.

RNNsearch has one weight for each source token. A Transformer has them for each layer and head; the
mean over the heads of the last layer but one is taken, which aligns best (Garg et al., Jointly
Learning to Align and Translate with Transformer Models, 2019, section 4.1), of one layer that one.
Weights of a word's pieces are added on the source's side and averaged on the target's, so what a
word looks at still sums to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

END = "EOS"
DECIMALS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Weights between the words of a text and of what was made of it.

    Attributes:
        source: Its words, and the EOS.
        target: The same.
        weights: (target, source), each row sums to 1.
    """

    source: list[str]
    target: list[str]
    weights: list[list[float]]


@torch.no_grad()
def align_texts(
    model: Any, tokenizer: Any, sources: Sequence[str], targets: Sequence[str]
) -> list[Alignment]:
    """Read the weights of attention while each target is given, token by token.

    A text longer than the model's context loses its end.

    Returns:
        One for each pair; none at all of a model without attention.
    """
    if model._supports_sdpa:
        model.set_attn_implementation("eager")  # the others do not give weights
    model.eval()
    most = model.config.max_position_embeddings
    found = []
    for source, target in zip(sources, targets, strict=True):
        (source_ids, source_words, source_places) = _words(tokenizer, source, most)
        (target_ids, target_words, target_places) = _words(tokenizer, target, most)
        given = [model.config.decoder_start_token_id, *target_ids[:-1]]
        layers = model(
            input_ids=torch.tensor([source_ids], device=model.device),
            attention_mask=torch.ones(1, len(source_ids), dtype=torch.long, device=model.device),
            decoder_input_ids=torch.tensor([given], device=model.device),
            output_attentions=True,
            use_cache=False,
        ).cross_attentions
        if not layers:
            return []
        tokens = layers[max(0, len(layers) - 2)][0].float().mean(0).cpu()  # (target, source)
        words = torch.zeros(len(target_words), len(source_words))
        sums = torch.zeros(len(tokens), len(source_words))
        sums.index_add_(1, torch.tensor(source_places), tokens)
        words.index_add_(0, torch.tensor(target_places), sums)
        words /= words.sum(1, keepdim=True)
        weights = [[round(one, DECIMALS) for one in row] for row in words.tolist()]
        found.append(Alignment(source=source_words, target=target_words, weights=weights))
    return found


def _words(tokenizer: Any, text: str, most: int) -> tuple[list[int], list[str], list[int]]:
    """Encode a text, at most so many ids: these and EOS, words and EOS, each id's word's place."""
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
    spans: list[tuple[int, int]] = []
    places: list[int] = []
    last: int | None = None
    for place, word in enumerate(encoded.word_ids()[: most - 1]):
        piece = encoded.token_to_chars(place)
        if places and word == last:
            spans[-1] = (spans[-1][0], piece.end)
        else:
            spans.append((piece.start, piece.end))
        last = word
        places.append(len(spans) - 1)
    words = [text[start:end].strip() for start, end in spans]
    return (
        [*encoded["input_ids"][: most - 1], tokenizer.eos_token_id],
        [*words, END],
        [*places, len(words)],
    )
