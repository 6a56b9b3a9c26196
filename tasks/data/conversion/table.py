"""The table of formats, one row each, and how a row is recognised.

The first format whose columns a row has is taken; the more telling ones stand first. What a row is
depends on its columns and the types of their values only, so it is looked up once for each set.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

from models.errors import ParameterError
from tasks.data.conversion import columns as names
from tasks.data.conversion import dialogues, pairs, rankings, trees
from tasks.data.conversion.columns import Present, Reading, Slots, fill, paired, plain_name
from tasks.data.conversion.records import Cells, Collection, Example, Row, RowProblem

Read: TypeAlias = Callable[[Cells], Example | list[Example]]


class Format(NamedTuple):
    """One shape of rows.

    Attributes:
        name: What `data.format` takes.
        title: What it is called in messages.
        serves: The collections that rows of it can become.
        home: The collection that files of it are made for.
        find: The columns that it reads, of those of a row; None where the row is none of it.
        read: Its conversion.
        columns: What it needs, for messages.
    """

    name: str
    title: str
    serves: tuple[Collection, ...]
    home: Collection
    find: Callable[[Present], Reading | None]
    read: Read
    columns: str


def _needs(needed: Slots, optional: Slots | None = None) -> Callable[[Present], Reading | None]:
    return partial(fill, needed=needed, optional=optional)


def _find_tree(present: Present) -> Reading | None:
    if present.get("prompt", ("", str))[1] is not dict or "chosen" in present:
        return None
    return fill(present, {"tree": ("prompt",)}) if "message_tree_id" in present else None


def _find_ranked(present: Present) -> Reading | None:
    found = fill(present, {"prompt": names.PROMPT, "completions": names.LISTS}, names.BEFORE)
    return found if found and "ranks" not in present and "scores" not in present else None


def _find_lists(present: Present) -> Reading | None:
    needed = {"prompt": names.PROMPT, "completions": names.LISTS}
    extra = {"ranks": names.RANKS, "scores": names.SCORES}
    found = fill(present, needed, {**names.BEFORE, **extra})
    return found if found and {"ranks", "scores"} & found.columns.keys() else None


_PAIR = {"chosen": names.CHOSEN, "rejected": names.REJECTED}
_PROMPT_OF_PAIR = {"prompt": ("prompt", "instruction", "question", "query", "problem",
                              *names.MESSAGES, "input", "context", "history")}  # fmt: skip
_JUDGED: Slots = {
    "margin": names.MARGIN,
    "tie": ("tie", "is_tie"),
    "status": ("status",),
    "verdict": names.JUDGED,
    "score_chosen": ("score_chosen", "chosen_score", "chosen_rating", "rating_chosen",
                     "chosen_avg_rating", "chosen_reward", "reward_chosen"),
    "score_rejected": ("score_rejected", "rejected_score", "rejected_rating", "rating_rejected",
                       "rejected_avg_rating", "rejected_reward", "reward_rejected"),
}  # fmt: skip


def _find_pair(present: Present) -> Reading | None:
    found = fill(present, _PAIR, {**_PROMPT_OF_PAIR, **_JUDGED, **names.BEFORE})
    return found and found._replace(constants={"verdict name": found.columns.get("verdict")})


_DEMONSTRATED: Slots = {**names.BEFORE, "label": names.OPINION}

FORMATS: tuple[Format, ...] = (
    Format(
        "pair", "a pair of completions, chosen and rejected",
        ("preferences", "prompts"), "preferences",
        _find_pair, pairs.chosen_and_rejected,
        "prompt + chosen + rejected, or chosen + rejected as whole dialogues",
    ),
    Format(
        "two-outputs", "two outputs and which is better",
        ("preferences", "prompts"), "preferences", paired, pairs.two_outputs,
        "prompt + output_1 + output_2 + preference (or a score for each)",
    ),
    Format(
        "lists", "a list of completions with a list of ranks or scores",
        ("preferences", "prompts"), "preferences", _find_lists, rankings.parallel_lists,
        "prompt + completions + ranks (or scores)",
    ),
    Format(
        "ranking", "completions with a rank or rating each (Nectar, UltraFeedback)",
        ("preferences", "prompts"), "preferences", _find_ranked, rankings.ranked_objects,
        "prompt + completions of text and rank (or score) each",
    ),
    Format(
        "summaries", "summaries of a post and which was chosen (summarize_from_feedback)",
        ("preferences", "prompts"), "preferences",
        _needs({"info": ("info",), "summaries": ("summaries",), "choice": ("choice",)}),
        rankings.summaries, "info + summaries + choice",
    ),
    Format(
        "tree", "a tree of messages with ranked replies (OpenAssistant)",
        ("preferences", "prompts"), "preferences", _find_tree, trees.tree,
        "message_tree_id + prompt with role, text and replies",
    ),
    Format(
        trees.NODE, "messages of trees, one a row (OpenAssistant)",
        ("preferences", "prompts"), "preferences",
        _needs(
            {"message_id": ("message_id",), "parent_id": ("parent_id",), "text": ("text",),
             "role": ("role",)},
            {"rank": ("rank",), "deleted": ("deleted",), "review_result": ("review_result",)},
        ),
        trees.lone_message, "message_id + parent_id + text + role + rank",
    ),
    Format(
        "thumbs-messages", "a dialogue with a thumb up or down (KTO)",
        ("demonstrations", "prompts"), "demonstrations",
        _needs({"messages": names.MESSAGES, "label": names.LABEL}, names.BEFORE),
        dialogues.thumbs_on_conversation, "messages + label",
    ),
    Format(
        "messages", "a dialogue of messages (chat, ShareGPT)",
        ("demonstrations", "prompts"), "demonstrations",
        _needs({"messages": names.MESSAGES}, _DEMONSTRATED), dialogues.conversation, "messages",
    ),
    Format(
        "thumbs", "a completion with a thumb up or down (KTO)",
        ("demonstrations", "prompts"), "demonstrations",
        _needs(
            {"prompt": names.PROMPT, "completion": names.COMPLETION, "label": names.LABEL},
            names.BEFORE,
        ),
        dialogues.thumbs, "prompt + completion + label",
    ),
    Format(
        "alpaca", "an instruction with its input and output (Alpaca)",
        ("demonstrations", "prompts"), "demonstrations",
        _needs(
            {"prompt": names.PROMPT[:-1], "input": names.INPUT, "completion": names.COMPLETION},
            _DEMONSTRATED,
        ),
        dialogues.prompt_and_completion, "instruction + input + output",
    ),
    Format(
        "prompt-completion", "a prompt and its completion",
        ("demonstrations", "prompts"), "demonstrations",
        _needs({"prompt": names.PROMPT, "completion": names.COMPLETION}, _DEMONSTRATED),
        dialogues.prompt_and_completion, "prompt + completion",
    ),
    Format(
        "turns", "the questions of a dialogue (MT-bench)",
        ("prompts",), "prompts", _needs({"turns": ("turns",)}), dialogues.turns, "turns",
    ),
    Format(
        "prompt", "a prompt alone", ("prompts",), "prompts",
        _needs({"prompt": names.PROMPT}, names.BEFORE), dialogues.prompt_only, "prompt",
    ),
    Format(
        "text", "a plain text", ("corpus", "prompts", "demonstrations"), "corpus",
        names.text_alone, dialogues.plain_text, "text",
    ),
)  # fmt: skip

FORMAT_NAMES: tuple[str, ...] = tuple(each.name for each in FORMATS)


class Match(NamedTuple):
    """A format and the columns that it reads in rows of one set of columns."""

    format: Format
    reading: Reading


def format_named(name: str) -> Format | None:
    """The format that `data.format` names; None where it names none.

    Raises:
        ParameterError: There is no format of this name.
    """
    if not name:
        return None
    found = next((each for each in FORMATS if each.name == name), None)
    if found is None:
        raise ParameterError(
            f"data.format {name!r} is no format; choose {', '.join(FORMAT_NAMES)}, or leave it "
            "empty to have the format recognised"
        )
    return found


def match(row: Row, collection: Collection | None = None, name: str = "") -> Match | None:
    """The first format of a row that serves a collection, else the first that it has at all.

    Args:
        row: A raw row.
        collection: What its rows are to become; None: whatever it is made for.
        name: The only format to consider; empty: all.

    Raises:
        ParameterError: There is no format of this name.
        RowProblem: Two columns have one name but for letter case.
    """
    return _match(tuple(row), tuple(map(type, row.values())), collection, name)


@lru_cache(maxsize=1024)
def _match(
    columns: tuple[Any, ...], types: tuple[type, ...], collection: Collection | None, name: str
) -> Match | None:
    given: dict[str, list[tuple[str, type]]] = {}
    for column, kind in zip(columns, types, strict=True):
        given.setdefault(plain_name(column), []).append((column, kind))
    twice = [several for several in given.values() if len(several) > 1]
    if twice:
        raise RowProblem("two columns have one name, but for letter case or separators")
    everything = {plain: several[0] for plain, several in given.items()}
    filled = {
        plain: one
        for plain, one in everything.items()
        if one[1] is not type(None) or plain in names.TELLING
    }
    only = format_named(name)
    if only is None:
        formats = FORMATS
    elif collection in (None, only.home):
        formats = (only,)
    else:  # files of another kind may stand beside those whose format is named
        formats = (only, *FORMATS)
    found: list[Match] = []
    for present in (filled, everything):  # a column without value says nothing, mostly
        for each in formats:
            reading = each.find(present)
            if reading is not None:
                found.append(Match(each, reading))
    serving = [one for one in found if collection is None or collection in one.format.serves]
    return next(iter(serving or found), None)
