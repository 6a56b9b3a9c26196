"""Which columns of a row a format reads: by name, letter case and separators ignored.

Names are synonyms only where they cannot mean anything else beside the format's other columns.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

Present: TypeAlias = Mapping[str, tuple[str, type]]
"""Columns by plain name: their name in the file, and the type of the value."""

Slots: TypeAlias = Mapping[str, tuple[str, ...]]

PROMPT = ("prompt", "instruction", "question", "query", "problem", "inputs", "input")
COMPLETION = ("completion", "response", "output", "answer", "reply", "solution", "target",
              "targets")  # fmt: skip
MESSAGES = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "trajectory")
INPUT = ("input", "context")
LABEL = ("label", "thumbs", "thumb", "thumbs_up", "desirable", "is_desirable", "kto_tag")
TELLING = frozenset((*LABEL, "parent_id"))
"""Columns that tell a format without a value too."""

CHOSEN = ("chosen", "chosen_response", "response_chosen", "accepted", "response_j")
REJECTED = ("rejected", "rejected_response", "response_rejected", "declined", "response_k")
LISTS = ("completions", "answers", "responses", "candidates", "outputs", "generations", "replies")
RANKS = ("ranks", "rank")
SCORES = ("scores", "score", "ratings", "rating", "rewards")
MARGIN = ("margin", "strength", "preference_strength", "preference_margin")
JUDGED = ("preference", "preferred", "winner", "verdict", "better", "label")
VERDICT = (*JUDGED, "labels", "choice", "better_response_id", "chosen", "preferred_output",
           "preferred_response", "preferred_answer", "best", "best_response", "human_preference",
           "judgment", "judgement", "ranker")  # fmt: skip

RIVALS = frozenset((*PROMPT, *COMPLETION)) - frozenset(INPUT)
"""Columns whose text could be the prompt or the completion where another one is taken for it."""

BEFORE: Slots = {
    "system": ("system", "system_prompt", "system_message"),
    "history": ("history",),
    "input": INPUT,
}
"""What may stand before a prompt, or belong to it."""

_STEMS = ("output", "response", "answer", "completion", "reply", "summary", "generation",
          "conversation", "human_ref", "text")  # fmt: skip
_ENDS = (("1", "2"), ("0", "1"), ("a", "b"), ("first", "second"), ("left", "right"))

SYNONYMS = {
    each[0]: each for each in (PROMPT, COMPLETION, MESSAGES, LISTS, LABEL, CHOSEN, REJECTED)
}
SYNONYMS |= {"instruction": PROMPT, "output": COMPLETION}
"""What messages call a column, and the names that it may have."""


class Reading(NamedTuple):
    """How a format reads rows of one set of columns.

    Attributes:
        columns: The file's name of the column for each of the format's own names.
        rivals: Other columns that could be the prompt or the completion, under its name.
        constants: Values that follow from the names of columns.
    """

    columns: Mapping[str, str]
    rivals: Mapping[str, tuple[str, ...]] = {}
    constants: Mapping[str, object] = {}


def plain_name(column: object) -> str:
    """A column's name for comparison: lower case, words joined by underscores."""
    return "_".join(str(column).strip().lower().replace("-", " ").replace("_", " ").split())


def fill(present: Present, needed: Slots, optional: Slots | None = None) -> Reading | None:
    """The columns of a format that has the given ones; None if a needed one is missing."""
    columns: dict[str, str] = {}
    rivals: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()
    for slot, names in {**needed, **(optional or {})}.items():
        found = [name for name in names if name in present and name not in taken]
        if not found:
            if slot in needed:
                return None
            continue
        taken.add(found[0])
        columns[slot] = present[found[0]][0]
        if slot in ("prompt", "completion"):
            others = [name for name in found[1:] if name in RIVALS]
            rivals[f"{slot} rivals"] = tuple(present[name][0] for name in others)
    return Reading(columns, {slot: names for slot, names in rivals.items() if names})


def text_alone(present: Present) -> Reading | None:
    """A column of texts; content is one unless it is a message's."""
    return fill(present, {"text": ("text",) if "role" in present else ("text", "content")})


def paired(present: Present) -> Reading | None:
    """Two outputs, such as output_1 and output_2, and whatever says which is better."""
    for shape in ("{stem}_{end}", "{stem}{end}", "{end}_{stem}", "model_{end}_{stem}"):
        for stem in _STEMS:
            for ends in _ENDS:
                first, second = (shape.format(stem=stem, end=end) for end in ends)
                if first in present and second in present:
                    return _paired(present, (first, second), ends)
    return None


def _paired(present: Present, names: tuple[str, str], ends: tuple[str, str]) -> Reading | None:
    optional: dict[str, tuple[str, ...]] = {"prompt": (*PROMPT, "history", "post")}
    if present.get("context", ("", str))[1] is list:  # HelpSteer3: a list of messages
        optional["prompt"] = ("context", *optional["prompt"])
    optional |= {
        **BEFORE,
        "verdict": VERDICT,
        "strength": ("preference_strength", "overall_preference"),
        "margin": ("margin", "strength"),
        "turn": ("turn",),
        "won_neither": ("winner_tie",),
    }
    for slot, end in zip(("first", "second"), ends, strict=True):
        optional[f"score_{slot}"] = tuple(
            f"{stem}{join}{end}" for stem in ("score", "rating", "reward") for join in ("_", "")
        )
        optional[f"model_{slot}"] = (f"model_{end}", f"generator_{end}")
        optional[f"won_{slot}"] = (f"winner_model_{end}",)
    found = fill(present, {"first": names[:1], "second": names[1:]}, optional)
    if found is None:
        return None
    verdict = plain_name(found.columns.get("verdict", ""))
    return found._replace(constants={"pair names": ends, "verdict name": verdict})
