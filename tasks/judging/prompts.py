"""The prompts that models are evaluated on: a preset's held-out ones, or the user's own file.

A file has a prompt a row, in a text file a line, and perhaps a completion, a reference, in any
format that the data stages read. Rows with the same prompt are one prompt with several references:
the intervals take prompts for independent.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from models.errors import DataError, ParameterError
from models.files import digest_file, listed, shown, user_path
from models.rows import Content, read_rows, text_of
from tasks.data.cleaning import clean_row
from tasks.data.files import ENDINGS, ending_of, read_file
from tasks.data.formats import (
    NO_DEMONSTRATION,
    Row,
    RowProblem,
    as_messages,
    convert_row,
    gather,
    recognise,
)
from tasks.data.limits import most_bytes
from tasks.data.quality import check_row
from tasks.results.digests import canonical_json


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPrompt:
    """One prompt, and what a good completion of it would be, where that is known."""

    prompt: Content
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFile:
    """A user's file, read and named by its content."""

    digest: str
    prompts: tuple[EvaluationPrompt, ...]


def read_prompt_file(path: Path) -> PromptFile:
    """Read prompts, and the completions that stand with them.

    Raises:
        ParameterError: There is no such file, or of no kind that can be read.
        DataError: It is empty, or a row of it cannot be used; the message names the row.
    """
    path = user_path(path)
    if not path.is_file() or not ending_of(path.name):
        raise ParameterError(
            f"the file of prompts {shown(path)} is no file ending in {', '.join(ENDINGS)}; give "
            'one with a row such as {"prompt": "…"} a line, as the flow\'s machine sees it'
        )
    digest = digest_file(path, most_bytes=most_bytes())
    raw = enumerate(gather(read_file(path, text="lines"), "prompts"), 1)
    rows = list(chain.from_iterable(_canonical(path, number, row) for number, row in raw))
    if digest_file(path, most_bytes=most_bytes()) != digest:
        raise DataError(f"{shown(path)} changed while it was read; start again when it is complete")
    if any(isinstance(row["prompt"], list) for row in rows):
        rows = [as_messages(row) for row in rows]
    return PromptFile(digest=digest, prompts=tuple(_grouped(rows)))


def prepared_prompts(folder: Path) -> list[EvaluationPrompt]:
    """Held-out prompts of a prepare stage, with the held-out demonstrations of the same prompts.

    Raises:
        DataError: There are none.
    """
    prompts = read_rows(folder / "prompts_heldout.jsonl")
    if not prompts:
        raise DataError(
            "the prepared data holds no held-out prompts; evaluation needs some: give "
            "prompts_test, raise data.heldout_fraction, or name a file of prompts"
        )
    wanted = {canonical_json(row["prompt"]) for row in prompts}
    shown = read_rows(folder / "demonstrations_heldout.jsonl")
    same = [row for row in shown if canonical_json(row["prompt"]) in wanted]
    return _grouped([*prompts, *same])


def prepared_demonstrations(folder: Path) -> list[EvaluationPrompt]:
    """Held-out demonstrations of a prepare stage."""
    return _grouped(read_rows(folder / "demonstrations_heldout.jsonl"))


def draw(prompts: Sequence[EvaluationPrompt], count: int, seed: int) -> list[EvaluationPrompt]:
    """Draw prompts without repetition, at most as many as there are; all keep their order."""
    return list(prompts) if count >= len(prompts) else random.Random(seed).sample(prompts, count)


def draw_heldout_prompts(path: Path, count: int, seed: int) -> list[Content]:
    """Draw different held-out prompts, since intervals take prompts for independent.

    Raises:
        DataError: There are none.
    """
    different = _grouped({"prompt": row["prompt"]} for row in read_rows(path))
    if not different:
        raise DataError(
            f"{path.name} holds no held-out prompts; measuring models needs some: give "
            "prompts_test, or raise data.heldout_fraction"
        )
    return [one.prompt for one in draw(different, count, seed)]


def _canonical(path: Path, number: int, row: Row) -> list[Row]:
    try:
        return _with_reference(row) or [_sound(one) for one in convert_row("prompts", row)]
    except RowProblem as problem:
        raise DataError(
            f"{shown(path)}, row {number}: {problem}; got columns {listed(list(row))}; wanted a "
            "prompt, and perhaps a completion, as text or messages; repair or remove the row"
        ) from problem


def _with_reference(row: Row) -> list[Row]:
    """The row with its completion; none where it has none, or one that is marked as bad."""
    found = recognise(row)
    if found is None or "demonstrations" not in found.serves:
        return []
    try:
        return [_sound(one) for one in convert_row("demonstrations", row)]
    except RowProblem as problem:
        if str(problem) in NO_DEMONSTRATION:
            return []
        raise


def _sound(row: Row) -> Row:
    cleaned = clean_row(row)
    check_row(cleaned)
    return cleaned


def _grouped(rows: Iterable[Row]) -> list[EvaluationPrompt]:
    references: dict[str, dict[str, None]] = {}
    prompts: dict[str, Content] = {}
    for row in rows:
        key = canonical_json(row["prompt"])
        prompts.setdefault(key, row["prompt"])
        known = references.setdefault(key, {})
        if "completion" in row:
            known[text_of(row["completion"], "assistant")] = None
    return [
        EvaluationPrompt(prompt=prompts[key], references=tuple(references[key])) for key in prompts
    ]
