"""BART's five noises: what of a document a sequence-to-sequence model sees before it restores it.

They follow each other: sentences are shuffled, the document is rotated, spans are infilled, and of
the tokens that are left some are masked and some deleted.

What differs from the paper: shares are exact per document (the nearest whole number of tokens), so
the last span of an infilling is shortened to what is left of the share.

Source: Lewis et al., BART (2020), section 2.2.
"""

from collections.abc import Sequence

import torch

from models.objectives.config import DenoisingConfig
from models.objectives.documents import Piece

MASKED = -1
"""A place that the mask token will take."""


def add_noise(
    piece: Piece, config: DenoisingConfig, mask: int, generator: torch.Generator
) -> list[int]:
    """Corrupt a document; at least one token is left.

    Args:
        mask: The mask token's id.

    Returns:
        Ids, (noisy tokens,).
    """
    tokens = list(range(len(piece)))  # places, so that no noise depends on which token stands there
    if _happens(config.sentence_permutation, generator):
        tokens = permute_sentences(tokens, piece.sentences, generator)
    if _happens(config.document_rotation, generator):
        tokens = rotate(tokens, generator)
    if config.text_infilling:
        covered = round(config.text_infilling * len(piece))
        tokens = infill(tokens, draw_spans(covered, config.span_tokens, generator), generator)
    if config.token_masking:
        tokens = mask_places(tokens, round(config.token_masking * len(piece)), generator)
    if config.token_deletion:
        tokens = delete(tokens, round(config.token_deletion * len(piece)), generator)
    return [mask if place == MASKED else piece.ids[place] for place in tokens]


def permute_sentences(
    tokens: Sequence[int], sentences: Sequence[int], generator: torch.Generator
) -> list[int]:
    """Shuffle sentences.

    Args:
        sentences: Places at which they begin.
    """
    stops = [*sentences[1:], len(tokens)]
    parts = [list(tokens[start:stop]) for start, stop in zip(sentences, stops, strict=True)]
    order = torch.randperm(len(parts), generator=generator).tolist()
    return [token for number in order for token in parts[number]]


def rotate(tokens: Sequence[int], generator: torch.Generator) -> list[int]:
    """Begin with a random token, and let what stood before it follow the end."""
    start = int(torch.randint(len(tokens), (), generator=generator))
    return [*tokens[start:], *tokens[:start]]


def draw_spans(covered: int, mean: float, generator: torch.Generator) -> list[int]:
    """Draw lengths of spans from a Poisson distribution until they cover so many tokens exactly."""
    spans: list[int] = []
    while covered > 0:
        length = int(torch.poisson(torch.tensor(mean), generator=generator))
        spans.append(min(length, covered))
        covered -= spans[-1]
    return spans


def infill(tokens: Sequence[int], spans: Sequence[int], generator: torch.Generator) -> list[int]:
    """Replace spans by one mask each; every arrangement of spans has the same probability.

    Args:
        spans: Their lengths, together at most the number of tokens; one of 0 inserts a mask.
    """
    kept = len(tokens) - sum(spans)
    places = torch.randperm(kept + len(spans), generator=generator)[: len(spans)]
    lengths = iter(spans)
    masked = set(places.tolist())
    filled: list[int] = []
    at = 0
    for place in range(kept + len(spans)):
        if place in masked:
            filled.append(MASKED)
            at += next(lengths)
        else:
            filled.append(tokens[at])
            at += 1
    return filled


def mask_places(tokens: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
    """Mask so many of the tokens that no mask stands for yet, or all."""
    chosen = set(_choose([at for at, one in enumerate(tokens) if one != MASKED], count, generator))
    return [MASKED if at in chosen else one for at, one in enumerate(tokens)]


def delete(tokens: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
    """Delete so many tokens, masks not among them; one place is left at least."""
    left = [at for at, one in enumerate(tokens) if one != MASKED]
    gone = set(_choose(left, min(count, len(tokens) - 1), generator))
    return [one for at, one in enumerate(tokens) if at not in gone]


def _choose(places: list[int], count: int, generator: torch.Generator) -> list[int]:
    order = torch.randperm(len(places), generator=generator)[:count]
    return [places[one] for one in order.tolist()]


def _happens(share: float, generator: torch.Generator) -> bool:
    return float(torch.rand((), generator=generator)) < share
