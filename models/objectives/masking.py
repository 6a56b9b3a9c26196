"""Masked language modelling: which tokens of a row are hidden, and what is seen in their place.

What differs from BERT's release: masks are drawn anew each time that a row is learned from, so
epochs differ, from a generator of the row's own, so a resumed run draws the same.

Source: Devlin et al., BERT (2019), section 3.1, task 1, and appendix A.1; whole words as in its
release of May 2019.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from models.objectives.config import MaskingConfig

IGNORED = -100
"""A label that the loss leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskTokens:
    """What masking must know of a tokenizer.

    Attributes:
        mask: The mask token's id.
        special: Ids that are never chosen.
        others: The ids of which a random token is drawn.
    """

    mask: int
    special: frozenset[int]
    others: list[int]

    @classmethod
    def of(cls, tokenizer: Any) -> "MaskTokens":
        """Read them from a tokenizer."""
        special = frozenset(tokenizer.all_special_ids)
        others = [one for one in range(len(tokenizer)) if one not in special]
        return cls(mask=tokenizer.mask_token_id, special=special, others=others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """A row with hidden tokens.

    Attributes:
        input_ids: (tokens,), what the model sees.
        labels: (tokens,), the right token where one was chosen, elsewhere IGNORED.
    """

    input_ids: list[int]
    labels: list[int]


def mask_tokens(
    ids: Sequence[int],
    words: Sequence[int],
    tokens: MaskTokens,
    config: MaskingConfig,
    generator: torch.Generator,
) -> Masked:
    """Choose `config.share` of the tokens that are not special, at least one, and hide them.

    With whole words, words are taken in random order, and those left out that would exceed the
    share; where none is short enough, the first is taken.

    Args:
        ids: (tokens,).
        words: Places at which words begin, ascending; used with `config.whole_words`.

    Returns:
        As many ids and labels.
    """
    groups = _groups(ids, words if config.whole_words else range(len(ids)), tokens.special)
    candidates = sum(map(len, groups))
    wanted = max(1, round(config.share * candidates))
    chosen: list[int] = []
    order = torch.randperm(len(groups), generator=generator).tolist()
    for number in order:
        if len(chosen) + len(groups[number]) <= wanted:
            chosen += groups[number]
    chosen = chosen or [place for number in order[:1] for place in groups[number]]
    kinds = torch.rand(len(chosen), generator=generator).tolist()
    drawn = torch.randint(len(tokens.others), (len(chosen),), generator=generator).tolist()
    seen, labels = list(ids), [IGNORED] * len(ids)
    for place, kind, other in zip(chosen, kinds, drawn, strict=True):
        labels[place] = ids[place]
        if kind < config.mask_share:
            seen[place] = tokens.mask
        elif kind < config.mask_share + config.random_share:
            seen[place] = tokens.others[other]
    return Masked(input_ids=seen, labels=labels)


def _groups(ids: Sequence[int], begins: Sequence[int], special: frozenset[int]) -> list[list[int]]:
    """Places of the tokens that may be chosen, word by word."""
    stops = [*begins[1:], len(ids)]
    groups = [
        [place for place in range(start, stop) if ids[place] not in special]
        for start, stop in zip(begins, stops, strict=True)
    ]
    return [group for group in groups if group]
