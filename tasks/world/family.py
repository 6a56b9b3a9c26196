"""A family of prompts as data: sentences with gaps, and the right and wrong values for them.

It has argument tuples, phrasings of the prompt, wordings of the core sentence of a
completion, and two small functions that give the values which make it right or lazily wrong.
Sentences are format strings over the family's fields, plus {value} for what the prompt asks for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Arguments = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of prompt.

    Attributes:
        fields: Names of the arguments, in order; the sentences below may use them.
        arguments: Every argument tuple of the family.
        held_out_by: "arguments" keeps whole tuples back, so that the rule behind them is asked
            for; "phrasing" keeps one phrasing of each tuple back, since a fact cannot be guessed.
        phrasings: Wordings of the prompt.
        wordings: Wordings of the core sentence, over the fields and {value}.
        statements: Further wordings, of plain statements in the corpus.
        mentions: Sentences with the words of an argument but without its fact.
        right: The values that make the core sentence right.
        lazy: The value of the prompt's most common mistake.
        mistakes: The values from which a random mistake is drawn; right ones may be among them.
    """

    name: str
    fields: tuple[str, ...]
    arguments: tuple[Arguments, ...]
    held_out_by: Literal["arguments", "phrasing"]
    phrasings: tuple[str, ...]
    wordings: tuple[str, ...]
    statements: tuple[str, ...]
    mentions: tuple[str, ...] = ()
    right: Callable[[Arguments], tuple[str, ...]]
    lazy: Callable[[Arguments], str]
    mistakes: tuple[str, ...]

    @property
    def plain_statements(self) -> tuple[str, ...]:
        """What may stand alone in the corpus: statements, and wordings that name what is asked."""
        fields = [f"{{{field}}}" for field in self.fields]
        named = (one for one in self.wordings if any(field in one for field in fields))
        return (*self.statements, *named)

    def sentence(self, template: str, arguments: Arguments, value: str = "") -> str:
        """Fill a template and begin it with a capital letter."""
        named = dict(zip(self.fields, arguments, strict=True))
        text = template.format(value=value, **named)
        return text[0].upper() + text[1:]


def joined(items: Sequence[str]) -> str:
    """Write items as English does: "red, blue and green"."""
    return " and ".join([", ".join(items[:-1]), items[-1]])
