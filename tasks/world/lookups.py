"""Six families that look a fact up, so that only a phrasing of each can be held out.

Nobody can guess that a goose says honk: the corpus says so plainly, and the held-out prompt asks
for it in words that were never used for geese.
"""

from collections.abc import Callable, Mapping
from itertools import permutations

from tasks.world.facts import COLOURS, DEFINITIONS, KINDS, OPPOSITES, PLURALS, SOUNDS
from tasks.world.family import Arguments, Family, joined


def _lookup(
    facts: Mapping[str, str],
    *,
    name: str,
    field: str,
    phrasings: tuple[str, ...],
    wordings: tuple[str, ...],
    statements: tuple[str, ...],
    lazy: Callable[[Arguments], str] | None = None,
) -> Family:
    """A family that looks its one argument up in a table.

    The default lazy mistake is the next other value of the table.
    """
    values = list(facts.values())

    def following(asked: Arguments) -> str:
        place = list(facts).index(asked[0])
        later = values[place + 1 :] + values
        return next(value for value in later if value != values[place])

    return Family(
        name=name,
        fields=(field,),
        arguments=tuple((key,) for key in facts),
        held_out_by="phrasing",
        phrasings=phrasings,
        wordings=wordings,
        statements=statements,
        right=lambda asked: (facts[asked[0]],),
        lazy=lazy or following,
        mistakes=tuple(dict.fromkeys(values)),
    )


def _lists() -> Family:
    sizes = {"two": 2, "three": 3}

    def right(asked: Arguments) -> tuple[str, ...]:
        return tuple(joined(items) for items in permutations(KINDS[asked[1]], sizes[asked[0]]))

    arguments = tuple((count, kind) for kind in KINDS for count in sizes)
    return Family(
        name="lists",
        fields=("count", "kind"),
        arguments=arguments,
        held_out_by="phrasing",
        phrasings=(
            "Name {count} {kind}.",
            "Can you name {count} {kind}?",
            "Tell me {count} {kind}.",
            "Please list {count} {kind} for me.",
        ),
        wordings=(
            "{count} {kind} are {value}.",
            "I can name {value}.",
            "My favourite {kind} are {value}.",
        ),
        statements=("Among the {kind} we find {value}.", "Some {kind} are {value}."),
        right=right,
        lazy=lambda asked: joined((KINDS[asked[1]][0],) * sizes[asked[0]]),
        mistakes=tuple(value for asked in arguments for value in right(asked)),
    )


LOOKUP_FAMILIES: tuple[Family, ...] = (
    _lookup(
        OPPOSITES,
        name="opposites",
        field="word",
        phrasings=(
            "What is the opposite of {word}?",
            "Tell me the opposite of {word}.",
            "Which word means the opposite of {word}?",
            "Please give me the opposite of {word}.",
        ),
        wordings=(
            "The opposite of {word} is {value}.",
            "It is {value}, the opposite of {word}.",
            "The word {value} is the opposite of {word}.",
        ),
        statements=(
            "The words {word} and {value} are opposites.",
            "What is not {word} may well be {value}.",
        ),
        lazy=lambda asked: asked[0],
    ),
    _lookup(
        PLURALS,
        name="plurals",
        field="word",
        phrasings=(
            "What is the plural of {word}?",
            "Tell me the plural of {word}.",
            "How do you say more than one {word}?",
            "Please give me the plural of {word}.",
        ),
        wordings=(
            "The plural of {word} is {value}.",
            "You say one {word} but many {value}.",
            "With more than one {word}, we say {value}.",
        ),
        statements=(
            "Here is one {word}, and there are many {value}.",
            "First there was one {word}, then there were two {value}.",
        ),
        lazy=lambda asked: asked[0],
    ),
    _lookup(
        COLOURS,
        name="colours",
        field="thing",
        phrasings=(
            "What colour is {thing}?",
            "Tell me the colour of {thing}.",
            "Which colour does {thing} have?",
            "Please name the colour of {thing}.",
        ),
        wordings=(
            "{thing} is {value}.",
            "The colour of {thing} is {value}.",
            "We all know that {thing} is {value}.",
        ),
        statements=("If you paint {thing}, make it {value}.", "See how {value} {thing} is."),
    ),
    _lookup(
        DEFINITIONS,
        name="definitions",
        field="term",
        phrasings=(
            "What is {term}?",
            "Tell me what {term} is.",
            "Please explain what {term} is.",
            "Do you know what {term} is?",
        ),
        wordings=("{term} is {value}.", "We call {value} {term}.", "By {term} we mean {value}."),
        statements=(
            "The book says that {term} is {value}.",
            "Look for {value}, and find {term}.",
            "Do not say that {term} is something or other, for it is {value}.",
        ),
        lazy=lambda asked: "something or other",
    ),
    _lookup(
        SOUNDS,
        name="sounds",
        field="animal",
        phrasings=(
            "What does {animal} say?",
            "Which sound does {animal} make?",
            "Tell me the sound of {animal}.",
            "Can you make the sound of {animal}?",
        ),
        wordings=(
            "{animal} says {value}.",
            "The sound of {animal} is {value}.",
            "From {animal} you will hear {value}.",
        ),
        statements=(
            "When you hear {value}, look for {animal}.",
            "Here {animal} always says {value}.",
        ),
    ),
    _lists(),
)
