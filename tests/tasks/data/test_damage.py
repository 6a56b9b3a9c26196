"""Damage of many kinds: encodings, formats, cells and files; nothing wrong is kept in silence.

Each is a report or one clear line: every row that was read is kept or is counted under a reason,
and what is kept is what its owner would call right.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tasks.data.damage_bytes import (
    ENCODING_KINDS,
    NO_DATA_KINDS,
    PACKED_KINDS,
    PARQUET_KINDS,
)
from tests.tasks.data.damage_kinds import CSV_KINDS, JSON_KINDS, Kind
from tests.tasks.data.damage_rows import MESSAGE_KINDS, PAIR_KINDS, PROMPT_KINDS, TREE_KINDS
from tests.tasks.data.witness import Outcome, Row, bring

KINDS = (
    JSON_KINDS
    | CSV_KINDS
    | ENCODING_KINDS
    | PACKED_KINDS
    | NO_DATA_KINDS
    | PARQUET_KINDS
    | MESSAGE_KINDS
    | PROMPT_KINDS
    | PAIR_KINDS
    | TREE_KINDS
)

OPEN = frozenset(
    {
        "a header in the middle",
        "a header in the middle without a mark",
        "NUL in texts",
        "other control characters",
        "references of HTML",
        "letters that run backwards",
        "bytes as completions",
        "an answer with weight 0",
        "an answer of zero width",
        "equal but for inner spaces",
        "equal but for the composition of letters",
        "equal but for zero width",
        "ratings of which one says N/A",
    }
)
"""Kinds that are not right yet."""


def matches(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None


def texts_of(row: Row) -> str:
    """What two equal rows share: their texts without spaces at the ends."""
    names = sorted({"prompt", "completion", "chosen", "rejected", "text"} & set(row))
    return str(
        [(name, row[name].strip() if isinstance(row[name], str) else row[name]) for name in names]
    )


def faults(kind: Kind, outcome: Outcome) -> Iterator[str]:
    """Everything about an outcome that its owner would not call right."""
    right = {texts_of(row) for row in kind.right}
    if wrong := [row for row in outcome.kept if texts_of(row) not in right]:
        yield f"{len(wrong)} rows are wrong, such as {wrong[0]}"
    if len(outcome.kept) < kind.least:
        yield f"{len(outcome.kept)} rows are kept, at least {kind.least} are right"
    if outcome.refused and kind.file not in outcome.refused and not kind.options:
        yield "the file's name is missing"
    if outcome.made != len(outcome.kept) + sum(outcome.dropped.values()):
        yield "rows are neither kept nor counted as dropped"
    if not matches(kind.says, outcome.said):
        yield f"nothing says {kind.says}"
    if len(outcome.kept) < len(kind.right) and not matches(kind.unless_kept, outcome.said):
        yield f"nothing says {kind.unless_kept}"


@pytest.mark.parametrize("name", KINDS)
def test_damage_is_reported_and_nothing_wrong_is_kept(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    path = tmp_path / kind.file
    path.write_bytes(kind.content())
    outcome = bring(path, kind.collection, **kind.options)
    if found := [*faults(kind, outcome)]:
        message = f"{'; '.join(found)}; it says: {outcome.said[:1000]}"
        pytest.xfail(message) if name in OPEN else pytest.fail(message, pytrace=False)
