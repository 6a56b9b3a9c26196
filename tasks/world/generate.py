"""Generate the embedded world: all its datasets from one config and one seed.

Every family draws from generators of its own, one a kind of row. An edit of one family's tables
therefore moves no row of another family, and above all no prompt of another family from the
held-out side to the training side.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from models.errors import DataError
from models.evaluation.samples import Pair
from models.randomness import derive_seed
from tasks.world.annotator import SimulatedAnnotator
from tasks.world.completions import (
    RESPECTS,
    Respect,
    draw_quality,
    write_completion,
    write_contrast,
    write_document,
)
from tasks.world.config import WorldConfig
from tasks.world.families import FAMILIES, WorldPrompt, index_prompts, prompts_of
from tasks.world.family import Family

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The generated datasets, as rows.

    Attributes:
        corpus: {"text"}; pretraining documents.
        demonstrations: {"prompt", "completion"}; good and poor ones to training prompts.
        preferences: {"prompt", "chosen", "rejected"}; ready-made pairs to training prompts.
        heldout_preferences: likewise, to held-out prompts.
        prompts: {"prompt"}; every training prompt once.
        heldout_prompts: {"prompt"}; every held-out prompt once.
        contrasts: {"prompt", "chosen", "rejected", "respect"}; held-out pairs that differ in one
            respect: "correct", "polite" or "brief".

    Prompts and completions are messages; the corpus is plain text.
    """

    corpus: list[Row]
    demonstrations: list[Row]
    preferences: list[Row]
    heldout_preferences: list[Row]
    prompts: list[Row]
    heldout_prompts: list[Row]
    contrasts: list[Row]


def generate_world(config: WorldConfig, seed: int, families: Sequence[Family] = FAMILIES) -> World:
    """Generate all datasets of the world.

    Args:
        config: Sizes and shares.
        seed: The same seed gives the same rows in the same order.
        families: What the world is about; only tests pass anything else.

    Raises:
        DataError: Two prompts read the same, or a held-out one is also trained on.
    """
    index_prompts(families)
    sources = [_source(family, config, seed) for family in families]
    return World(
        corpus=_mixed(sources, "corpus", config.documents, _write_corpus),
        demonstrations=_mixed(
            sources, "demonstrations", config.demonstrations, _write_demonstrations
        ),
        preferences=_mixed(sources, "preferences", config.preferences, _write_preferences),
        heldout_preferences=_mixed(
            sources, "heldout_preferences", config.heldout_preferences, _write_heldout_preferences
        ),
        prompts=_mixed(sources, "prompts", 0, lambda source, *_: _prompt_rows(source.training)),
        heldout_prompts=_mixed(
            sources, "heldout_prompts", 0, lambda source, *_: _prompt_rows(source.heldout)
        ),
        contrasts=[
            row
            for respect in RESPECTS
            for row in _mixed(
                sources, f"contrasts.{respect}", config.contrasts, partial(_contrasts, respect)
            )
        ],
    )


def split_prompts(
    family: Family, heldout_share: float, rng: random.Random
) -> tuple[list[WorldPrompt], list[WorldPrompt]]:
    """Split a family's prompts into training and held-out ones.

    A family that holds out by arguments keeps `heldout_share` of its argument tuples back, in all
    their phrasings. One that holds out by phrasing keeps one phrasing of each tuple back.
    """
    prompts = prompts_of(family)
    if family.held_out_by == "arguments":
        kept_back = rng.sample(family.arguments, round(heldout_share * len(family.arguments)))
        heldout = {prompt for prompt in prompts if prompt.arguments in kept_back}
    else:
        chosen = {args: rng.randrange(len(family.phrasings)) for args in family.arguments}
        heldout = {prompt for prompt in prompts if prompt.phrasing == chosen[prompt.arguments]}
    return (
        [prompt for prompt in prompts if prompt not in heldout],
        [prompt for prompt in prompts if prompt in heldout],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """One family, split, with its own random seeds."""

    family: Family
    training: list[WorldPrompt]
    heldout: list[WorldPrompt]
    config: WorldConfig
    root_seed: int

    def seed(self, name: str) -> int:
        return derive_seed(self.root_seed, f"world.{self.family.name}.{name}")


_Writer = Callable[[_Source, int, random.Random], Iterable[Row]]


def _source(family: Family, config: WorldConfig, root_seed: int) -> _Source:
    rng = random.Random(derive_seed(root_seed, f"world.{family.name}.split"))
    training, heldout = split_prompts(family, config.heldout_share, rng)

    def identity(prompt: WorldPrompt) -> tuple[str, ...]:
        by_phrasing = family.held_out_by == "phrasing"
        return (*prompt.arguments, str(prompt.phrasing)) if by_phrasing else prompt.arguments

    shared = {identity(prompt) for prompt in training} & {identity(prompt) for prompt in heldout}
    if shared or not training or not heldout:
        raise DataError(
            f"family {family.name!r} has {len(training)} training and {len(heldout)} held-out "
            f"prompts that share {sorted(shared)[:3]}; wanted some of each and none shared: "
            "change heldout_share or remove double arguments"
        )
    return _Source(
        family=family, training=training, heldout=heldout, config=config, root_seed=root_seed
    )


def _mixed(sources: Sequence[_Source], kind: str, total: int, write: _Writer) -> list[Row]:
    """Mix `total` rows, the same share by every family.

    The order comes from a number drawn for each row alone, so that a family with more rows than
    before changes nothing in the order of the others.
    """
    keyed: list[tuple[int, Row]] = []
    for place, source in enumerate(sources):
        count = total // len(sources) + (place < total % len(sources))
        rows = write(source, count, random.Random(source.seed(kind)))
        keyed += [(source.seed(f"{kind}.order.{number}"), row) for number, row in enumerate(rows)]
    return [row for _, row in sorted(keyed, key=lambda pair: pair[0])]


def _write_corpus(source: _Source, count: int, rng: random.Random) -> Iterable[Row]:
    for _ in range(count):
        yield {"text": write_document(source.family, source.training, source.config, rng)}


def _write_demonstrations(source: _Source, count: int, rng: random.Random) -> Iterable[Row]:
    """Go round the training prompts, so that each is demonstrated about equally often."""
    prompts = rng.sample(source.training, len(source.training))
    for number in range(count):
        prompt = prompts[number % len(prompts)]
        completion = write_completion(prompt, draw_quality(source.config, rng), rng)
        yield {"prompt": _asked(prompt.text), "completion": _said(completion)}


def _write_preferences(source: _Source, count: int, rng: random.Random) -> Iterable[Row]:
    return _compared(source, source.training, count, rng, source.config.shuffle_preferences)


def _write_heldout_preferences(source: _Source, count: int, rng: random.Random) -> Iterable[Row]:
    # Honest in the shuffled control too, which must be seen to have learned nothing.
    return _compared(source, source.heldout, count, rng, False)


def _compared(
    source: _Source, prompts: Sequence[WorldPrompt], count: int, rng: random.Random, shuffle: bool
) -> list[Row]:
    annotator = SimulatedAnnotator(seed=source.seed("annotator"), shuffle=shuffle)
    pairs = [_pair(rng.choice(prompts), source.config, rng) for _ in range(count)]
    preferences = annotator.compare(pairs).preference.tolist()
    rows = (pair.to_row(one) for pair, one in zip(pairs, preferences, strict=True))
    return [row for row in rows if row is not None]


def _pair(prompt: WorldPrompt, config: WorldConfig, rng: random.Random) -> Pair:
    """Write two completions of different quality; to compare equals would teach nothing."""
    first = second = draw_quality(config, rng)
    while second == first:
        second = draw_quality(config, rng)
    return Pair(
        prompt=_asked(prompt.text),
        first=_said(write_completion(prompt, first, rng)),
        second=_said(write_completion(prompt, second, rng)),
    )


def _prompt_rows(prompts: Sequence[WorldPrompt]) -> list[Row]:
    return [{"prompt": _asked(prompt.text)} for prompt in prompts]


def _contrasts(respect: Respect, source: _Source, count: int, rng: random.Random) -> Iterable[Row]:
    for _ in range(count):
        pair = write_contrast(source.heldout, respect, source.config, rng)
        yield {
            "prompt": _asked(pair["prompt"]),
            "chosen": _said(pair["chosen"]),
            "rejected": _said(pair["rejected"]),
            "respect": respect,
        }


def _asked(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _said(completion: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": completion}]
