"""The eleven families of prompts, and where a prompt is found again by its text alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from models.errors import DataError
from tasks.world.family import Arguments, Family
from tasks.world.lookups import LOOKUP_FAMILIES
from tasks.world.rules import RULE_FAMILIES

FAMILIES: tuple[Family, ...] = RULE_FAMILIES + LOOKUP_FAMILIES


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldPrompt:
    """One prompt: which family asks what, and in which of its phrasings."""

    family: Family
    arguments: Arguments
    phrasing: int
    text: str


def prompts_of(family: Family) -> list[WorldPrompt]:
    """Every prompt of a family: each argument tuple in each phrasing, in order."""
    return [
        WorldPrompt(
            family=family,
            arguments=arguments,
            phrasing=number,
            text=family.sentence(phrasing, arguments),
        )
        for arguments in family.arguments
        for number, phrasing in enumerate(family.phrasings)
    ]


def index_prompts(families: Iterable[Family]) -> dict[str, WorldPrompt]:
    """Map the text of every prompt to what it asks.

    Raises:
        DataError: two prompts read the same, so that a text would not say what is asked.
    """
    index: dict[str, WorldPrompt] = {}
    for family in families:
        for prompt in prompts_of(family):
            twin = index.setdefault(prompt.text, prompt)
            if twin is not prompt:
                raise DataError(
                    f"the prompt {prompt.text!r} is asked by {twin.family.name} {twin.arguments} "
                    f"and by {family.name} {prompt.arguments}; prompts must be unique, so change "
                    "a phrasing or an argument"
                )
    return index


@cache
def known_prompts() -> dict[str, WorldPrompt]:
    """Every prompt of the world by its text."""
    return index_prompts(FAMILIES)
