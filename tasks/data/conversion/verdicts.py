"""Words and numbers in which a row says which of two completions is better."""

import re
from typing import Literal, TypeAlias

from tasks.data.conversion.cells import number, word
from tasks.data.conversion.records import RowProblem

Verdict: TypeAlias = Literal["first", "second", "tie"]

_TIES = frozenset(
    {"tie", "tied", "ties", "tie_(bothbad)", "tie_(both_bad)", "bothbad", "both_bad", "both_good",
     "both", "neither", "equal", "equally_good", "same", "draw", "[[c]]", "none_better",
     "no_preference", "about_the_same", "equally_bad", "a=b", "no_difference"}
)  # fmt: skip
_PREFIXES = ("", "model_", "output_", "response_", "answer_", "assistant_", "completion_",
             "option_", "conversation_", "human_ref_")  # fmt: skip

CHOSEN_AND_REJECTED = ("chosen", "rejected")
"""Names that say no order: "first" is neither of them."""

_SIDES: dict[Verdict, tuple[str, ...]] = {"first": ("first", "left"), "second": ("second", "right")}
_COMPARED = re.compile(r"([ab12])_?(>+|<+)_?([ab12])")


def _winner(comparison: re.Match[str]) -> str:
    """The name of the better one in a comparison such as A>>B."""
    return comparison[1] if ">" in comparison[2] else comparison[3]


def read_verdict(
    value: object,
    names: tuple[str, str],
    models: tuple[object, object] = (None, None),
    column: str = "",
) -> Verdict | None:
    """Which of two completions is better.

    Args:
        value: What the row says.
        names: What the row calls the two: the ends of their columns' names, such as 1 and 2.
        models: Names of the models that wrote them, by which a winner may be named.
        column: The column that says it.

    Returns:
        None where it names neither of them, nor a tie.
    """
    said = word(value)
    if said in _TIES:
        return "tie"
    if models[0] != models[1] and said in (word(models[0]), word(models[1])):
        return "first" if said == word(models[0]) else "second"
    if isinstance(value, bool):
        return None
    plain = _COMPARED.sub(_winner, said.strip("[]"))
    for verdict, name in zip(_SIDES, names, strict=True):
        by_side = plain in _SIDES[verdict] and names != CHOSEN_AND_REJECTED
        if by_side or plain in {prefix + name for prefix in _PREFIXES}:
            return verdict
    return _by_number(value, names, column)


def _by_number(value: object, names: tuple[str, str], column: str) -> Verdict | None:
    try:
        found = number(value, "verdict")
    except RowProblem:
        return None
    if found is None:
        return None
    if names == ("1", "2") and column == "preference":
        # AlpacaEval: 1 to 2, how likely the second is preferred; 0 and 1.5 are draws.
        if found in (0, 1.5):
            return "tie"
        return ("first" if found < 1.5 else "second") if 1 <= found <= 2 else None
    if names == ("0", "1") and found == 0.5:
        return "tie"
    if names == ("a", "b") and column == "labels" and found in (0, 1):  # SHP: 1 is A
        return "first" if found == 1 else "second"
    return None
