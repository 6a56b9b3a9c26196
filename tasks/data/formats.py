"""Conversion of a row of any accepted shape to canonical rows.

Stands between `sources` and `quality`. The formats are the rows of the table `FORMATS`
(`conversion.table`), chosen by the columns of a row; a new one is a function and a row there.

Canonical rows are TRL's own dataset types. A prompt is a text or a list of messages, and a row is
all texts or all messages: where one value of a row is messages, a prompt text becomes one user
message and a completion text one assistant message.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from models.files import listed
from tasks.data.config import DataConfig
from tasks.data.conversion.canonical import TIE, as_messages, rows_of, rows_of_tree
from tasks.data.conversion.columns import SYNONYMS, plain_name
from tasks.data.conversion.dialogues import NO_ANSWER, TEXT_ALONE, THUMBS_DOWN
from tasks.data.conversion.messages import MESSAGE_KEYS
from tasks.data.conversion.rankings import RANKED_KEYS
from tasks.data.conversion.records import COLLECTIONS, Collection, LeftOut, Row, RowProblem
from tasks.data.conversion.table import FORMAT_NAMES, FORMATS, Format, Match, format_named, match
from tasks.data.conversion.trees import NODE, gather_trees

__all__ = [
    "AS_IT_IS",
    "COLLECTIONS",
    "FORMATS",
    "FORMAT_NAMES",
    "NO_DEMONSTRATION",
    "TIE",
    "UNKNOWN_COLUMNS",
    "WRONG_KIND",
    "Collection",
    "Format",
    "LeftOut",
    "Row",
    "RowProblem",
    "accepted_columns",
    "as_messages",
    "columns_read",
    "convert_row",
    "describe_unknown",
    "format_named",
    "gather",
    "recognise",
    "unread_columns",
]

AS_IT_IS = DataConfig()
"""No option chosen."""

NO_DEMONSTRATION = ("empty completion", NO_ANSWER, THUMBS_DOWN, TEXT_ALONE)
"""Reasons of rows that have a prompt, but no completion to learn from."""

WRONG_KIND = "recognised as "
"""How the reason of rows begins that are recognised, but not as what was wanted."""

_FEW = 5
_KEYS_READ = MESSAGE_KEYS | RANKED_KEYS

UNKNOWN_COLUMNS = "columns fit no accepted format"


def recognise(row: Row, config: DataConfig = AS_IT_IS) -> Format | None:
    """The format of a row; None where it is of none.

    Its `home` is the collection that such a file is made for, `serves` all that it can become.

    Raises:
        ParameterError: `config.format` names no format.
    """
    found = _found(row, None, config)
    return None if found is None else found.format


def columns_read(
    collection: Collection | None, row: Row, config: DataConfig = AS_IT_IS
) -> list[str]:
    """The columns of a row that conversion to a collection reads, in the row's order.

    Args:
        collection: None: the one that the row's format is made for.

    Raises:
        ParameterError: `config.format` names no format.
    """
    found = _found(row, collection, config)
    if found is None:
        return []
    rivals = chain.from_iterable(found.reading.rivals.values())
    read = {*found.reading.columns.values(), *rivals}
    return [column for column in row if column in read]


def unread_columns(
    collection: Collection | None, row: Row, config: DataConfig = AS_IT_IS
) -> list[str]:
    """The columns with a value that conversion of a row to a collection does not look at.

    Keys of messages and ranked completions are named too, such as ``messages[].thinking``.
    """
    read = set(columns_read(collection, row, config))
    unread = []
    for column, value in row.items():
        if column not in read:
            unread += [column] if value is not None else []
        elif isinstance(value, list) and value and isinstance(value[-1], dict):
            keys = value[-1].keys() - _KEYS_READ
            unread += sorted(f"{column}[].{key}" for key in keys if value[-1][key] is not None)
    return unread


def _found(row: Row, collection: Collection | None, config: DataConfig) -> Match | None:
    try:
        return match(row, collection, config.format)
    except RowProblem:
        return None


def accepted_columns(collection: Collection) -> str:
    """The first sets of columns that a collection accepts, for messages."""
    accepted = [each.columns for each in FORMATS if collection in each.serves]
    more = "; or another format of tasks/README.md" if len(accepted) > _FEW else ""
    return "; or ".join(accepted[:_FEW]) + more


def convert_row(
    collection: Collection,
    row: Row,
    config: DataConfig = AS_IT_IS,
    *,
    dropped: Counter[str] | None = None,
    notes: Counter[str] | None = None,
) -> list[Row]:
    """Convert a row of an accepted shape to new canonical ones.

    Args:
        collection: What the row is to become.
        row: As it was read.
        config: Its format, ties, fold_system and join_turns count.
        dropped: Counts pairs of a ranking that are left out while others are kept, by reason.
        notes: Counts what was left out of a row or changed in it.

    Returns:
        One row, or several adjacent ones: a ranking gives all its pairs.

    Raises:
        LeftOut: The row can be read, but holds nothing to learn from; a kind of RowProblem.
        RowProblem: The row is of no format, or of one that the collection cannot take, or a value
            has the wrong type or turns.
        ParameterError: `config.format` names no format.
    """
    found = match(row, collection, config.format)
    if found is None:
        raise RowProblem(_misfit(config.format) if config.format else UNKNOWN_COLUMNS)
    format, reading = found
    if collection not in format.serves:
        raise RowProblem(_not_for(collection, format))
    cells = {slot: row[column] for slot, column in reading.columns.items()}
    if reading.rivals or reading.constants:
        cells |= reading.constants
        cells |= {slot: [row[name] for name in names] for slot, names in reading.rivals.items()}
    example = format.read(cells)
    dropped = Counter() if dropped is None else dropped
    if notes is not None:
        examples = example if isinstance(example, list) else [example]
        for each in examples:
            # Of a prompt alone only what belongs to prompts counts.
            if collection != "prompts" or not (each.completion or each.pairs):
                notes.update(each.notes)
    if isinstance(example, list):
        return rows_of_tree(collection, example, config, dropped)
    return rows_of(collection, example, config, dropped)


def gather(rows: Iterable[Row], collection: Collection = "preferences") -> Iterator[Row]:
    """Rows as `convert_row` takes them: messages of trees, one a row, become trees.

    Only such rows are held in memory; all others pass one by one. A message whose parent is not
    among the rows stays a row of its own, which `convert_row` refuses.
    """
    waiting = iter(rows)
    first = next(waiting, None)
    if first is None:
        return
    if collection == "corpus":  # each message is a text
        yield from chain([first], waiting)
        return
    found = _found(first, None, AS_IT_IS)
    rest = chain([first], waiting)
    yield from gather_trees(rest) if found and found.format.name == NODE else rest


def _misfit(name: str) -> str:
    named = format_named(name)
    return f"columns do not fit data.format={name}" + (f": wanted {named.columns}" if named else "")


def _not_for(collection: Collection, found: Format) -> str:
    """Why a format cannot become a collection, and what to do."""
    return f"{WRONG_KIND}{found.title}, which gives no {collection}; {_remedy(collection, found)}"


def _remedy(collection: Collection, found: Format) -> str:
    if collection == "demonstrations" and found.home == "preferences":
        return (
            "name it as preferences only: demonstrations are then made of its prompts and chosen "
            "completions"
        )
    if collection == "preferences":
        return f"wanted two completions of one prompt and which is better; name it as {found.home}"
    if collection == "corpus":
        return f"wanted a column text; name it as {found.home}"
    return f"name it as {found.home}"


def describe_unknown(collection: Collection, columns: Iterable[str]) -> str:
    """What is said of rows of no format: the columns that were seen, and what they lack.

    Returns:
        Such as ``got columns id, chosen; nearest: a pair … (lacks rejected)``.
    """
    seen = list(columns)
    plain = {plain_name(column) for column in seen}
    nearest = []
    for each in FORMATS:
        if collection in each.serves:
            wanted = [part.split()[0] for part in each.columns.split(",")[0].split(" + ")]
            lacking = [name for name in wanted if not plain & set(SYNONYMS.get(name, (name,)))]
            if len(lacking) < len(wanted):
                text = f"{each.title} (lacks {' and '.join(lacking)})"
                nearest.append((len(lacking), -len(wanted), text))
    close = [text for *_, text in sorted(nearest)[:2]]
    wanted_columns = f"wanted {accepted_columns(collection)}"
    ending = f"nearest: {'; or '.join(close)}" if close else wanted_columns
    return f"got columns {listed(seen) or 'none'}; {ending}"
