"""What passes between the steps of conversion: raw rows, examples, canonical rows.

A format reads a raw row into an `Example`: a prompt and what was written for it, as text or as
messages. `canonical` makes rows of TRL's dataset types of it, for the collection that is wanted.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from models.errors import DataError

Row: TypeAlias = dict[str, Any]
Message: TypeAlias = dict[str, Any]
Content: TypeAlias = str | list[Message]
Cells: TypeAlias = Mapping[str, Any]
"""Values of a row by what its format calls them, such as ``prompt`` for a column `Question`."""

Collection: TypeAlias = Literal["corpus", "demonstrations", "preferences", "prompts"]
COLLECTIONS: tuple[Collection, ...] = get_args(Collection)


class RowProblem(DataError):
    """One row cannot be used; its text is the reason under which the row is counted."""


class LeftOut(RowProblem):
    """A row that was read but holds nothing to learn from: a tie, a thumb down, a contradiction."""


class Pair(NamedTuple):
    """Two completions of one prompt.

    Attributes:
        chosen: The better one, as text, as messages that follow the prompt, or as a whole dialogue.
        rejected: The other one.
        margin: How much better, where the row says so.
        tie: Whether neither is better.
        contradiction: Why the pair cannot be used, where the row contradicts itself.
    """

    chosen: Content
    rejected: Content
    margin: float | None = None
    tie: bool = False
    contradiction: str = ""


class Example(NamedTuple):
    """One prompt and what a row has for it.

    Attributes:
        prompt: None where it is the beginning of whole dialogues.
        completion: Of a demonstration.
        question: A later prompt, without completion; None if there is none.
        pairs: Of preferences.
        problem: Why the completion is no demonstration.
        text: A text without prompt.
        notes: What was left out or changed, a phrase each.
    """

    prompt: Content | None = None
    completion: Content | None = None
    question: Content | None = None
    pairs: tuple[Pair, ...] = ()
    problem: RowProblem | None = None
    text: str | None = None
    notes: tuple[str, ...] = ()
