"""The pretraining text of one family: facts in plain statements, people who talk, and echoes.

All facts of the world stand in statements, for knowledge comes from pretraining; what is held out
is the asking: no held-out prompt stands in any document. Echoes repeat words of the family after
somebody. They say nothing, but they force a small network to learn early how to take a word from
what was said before, without which it cannot speak of the very things that a prompt names.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from tasks.world.completions import draw_quality, write_completion
from tasks.world.config import WorldConfig
from tasks.world.families import WorldPrompt
from tasks.world.family import Family

# Shares of the documents that are dialogues and echoes; the rest are statements.
_DIALOGUE_SHARE = 0.35
_ECHO_SHARE = 0.2
# Sentences in a document of statements; exchanges in a dialogue; echoes. All make about 45 tokens.
_STATEMENTS = (3, 6)
_EXCHANGES = (1, 3)
_ECHOES = (3, 5)
# Share of the statements that only mention an argument, in families that have such sentences.
_MENTION_SHARE = 0.35

_ECHO_SENTENCES = (
    "The teacher says: {words}. The class says: {words}.",
    "You say {words}, and I say {words}.",
    "Say after me: {words}! {Words}, says everyone.",
    "{Words}? Yes, {words}.",
)
_ECHO_LENGTHS = (1, 2, 2, 3)
_ECHO_JOINTS = (", ", " and ", " or ", " plus ", " to ", " is bigger than ")


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
    kind = rng.random()
    if kind < _DIALOGUE_SHARE:
        return "\n".join(_exchange(training, config, rng) for _ in range(rng.randint(*_EXCHANGES)))
    if kind < _DIALOGUE_SHARE + _ECHO_SHARE:
        return " ".join(_echo(family, rng) for _ in range(rng.randint(*_ECHOES)))
    statements = [_statement(family, rng) for _ in range(rng.randint(*_STATEMENTS))]
    return " ".join(dict.fromkeys(statements))


def _statement(family: Family, rng: random.Random) -> str:
    arguments = rng.choice(family.arguments)
    if family.mentions and rng.random() < _MENTION_SHARE:
        return family.sentence(rng.choice(family.mentions), arguments)
    template = rng.choice(family.plain_statements)
    return family.sentence(template, arguments, rng.choice(family.right(arguments)))


def _echo(family: Family, rng: random.Random) -> str:
    """Some words of the family, said and said again."""
    words = [rng.choice(rng.choice(family.arguments)) for _ in range(rng.choice(_ECHO_LENGTHS))]
    phrase = rng.choice(_ECHO_JOINTS).join(words)
    capital = phrase[0].upper() + phrase[1:]
    return rng.choice(_ECHO_SENTENCES).format(words=phrase, Words=capital)


def _exchange(training: Sequence[WorldPrompt], config: WorldConfig, rng: random.Random) -> str:
    """One prompt and a completion of it: correct, for the corpus tells the truth, in any tone."""
    prompt = rng.choice(training)
    quality = draw_quality(config, rng)
    completion = write_completion(prompt, replace(quality, correct=True), rng)
    return f"{prompt.text}\n{completion}"
