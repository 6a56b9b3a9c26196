"""The pretraining text of one family: facts in plain statements, and people who talk.

Facts stand in statements of several wordings, so that a held-out phrasing has something to be
answered from. Arguments that are held out as a whole appear in no statement and no dialogue.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from tasks.data.world.completions import draw_quality, write_completion
from tasks.data.world.config import WorldConfig
from tasks.data.world.families import WorldPrompt
from tasks.data.world.family import Family

__all__ = ["write_document"]

# Share of the documents that are dialogues.
_DIALOGUE_SHARE = 0.35
# Sentences in a document of statements; exchanges in a dialogue. Both make about 45 tokens.
_STATEMENTS = (3, 6)
_EXCHANGES = (1, 3)
# Share of the statements that only mention an argument, in families that have such sentences.
_MENTION_SHARE = 0.35


def write_document(
    family: Family, training: Sequence[WorldPrompt], config: WorldConfig, rng: random.Random
) -> str:
    """Write one document of a family.

    Args:
        family: what the document is about.
        training: the family's training prompts; no other prompt appears.
        config: says how good the completions in dialogues are, apart from being correct.
        rng: the family's own generator.
    """
    if rng.random() < _DIALOGUE_SHARE:
        return "\n".join(_exchange(training, config, rng) for _ in range(rng.randint(*_EXCHANGES)))
    statements = [_statement(family, training, rng) for _ in range(rng.randint(*_STATEMENTS))]
    return " ".join(dict.fromkeys(statements))


def _statement(family: Family, training: Sequence[WorldPrompt], rng: random.Random) -> str:
    if family.mentions and rng.random() < _MENTION_SHARE:
        return family.sentence(rng.choice(family.mentions), rng.choice(family.arguments))
    arguments = rng.choice(training).arguments
    template = rng.choice(family.plain_statements)
    return family.sentence(template, arguments, rng.choice(family.right(arguments)))


def _exchange(training: Sequence[WorldPrompt], config: WorldConfig, rng: random.Random) -> str:
    """One prompt and a completion of it: correct, for the corpus tells the truth, in any tone."""
    prompt = rng.choice(training)
    quality = draw_quality(config, rng)
    completion = write_completion(prompt, replace(quality, correct=True), rng)
    return f"{prompt.text}\n{completion}"
