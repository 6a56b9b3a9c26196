"""Questions of the user's own: JSON lines of multiple choice or cloze, read strictly.

    {"question": "2 + 2 =", "choices": ["3", "4"], "label": 1}          multiple choice
    {"context": "The capital of France is", "completion": "Paris"}      cloze

Both may carry "subject"; accuracy is then reported by subject too, and examples for few-shot come
from the same subject. Other keys are ignored, and a file holds one kind only.
"""

import json
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.display import in_one_line
from models.errors import DataError
from models.files import open_file, parse_json, read_chunks, reading, shown
from models.randomness import derive_seed

Kind = Literal["choice", "cloze"]

MOST_BYTES = 2**28
"""Questions are few, and each is asked."""

_HALF = re.compile("[\ud800-\udfff]")

KEYS: dict[Kind, tuple[str, ...]] = {
    "choice": ("question", "choices", "label"),
    "cloze": ("context", "completion"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One row of a file.

    Attributes:
        line: In its file, from 1.
        context: The question, or the text before the gap.
        answers: The choices; of a cloze its completion alone.
        label: Position of the right answer, from 0.
        subject: Topic; empty if the row has none.
    """

    line: int
    context: str
    answers: tuple[str, ...]
    label: int
    subject: str

    @property
    def answer(self) -> str:
        """The right one."""
        return self.answers[self.label]


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """A file of questions, all of one kind."""

    name: str
    kind: Kind
    rows: list[Question]


def read_questions(path: Path) -> Questions:
    """Read a file of questions.

    Raises:
        DataError: The file cannot be read, holds no row, or a row is malformed.
    """
    wanted = (
        "a UTF-8 file of JSON lines with question, choices and label, or with context and "
        "completion"
    )
    with open_file(path, most_bytes=MOST_BYTES) as file, reading(path, wanted):
        text = b"".join(read_chunks(file, path, most_bytes=MOST_BYTES)).decode("utf-8-sig")
    lines = text.split("\n")  # a text may hold other line ends
    kind: Kind | None = None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
            kind = kind or _kind(row)
            rows.append(_question(row, kind, number))
        except ValueError as error:  # json's own errors are ValueErrors
            raise DataError(
                f"{shown(path.name)}, line {number}: {error}; repair or remove the line"
            ) from error
    if kind is None:
        raise DataError(f"{shown(path.name)} holds no rows; give at least one question")
    return Questions(name=path.name, kind=kind, rows=rows)


def draw_examples(
    questions: Questions, shots: int, seed: int, *, shown: Questions | None = None
) -> list[list[Question]]:
    """Draw the solved examples for each question, from its own subject, never itself.

    A question that stands in the file twice is no example for its twin either.

    Args:
        seed: Of the choice; each question has its own, so that later rows do not matter.
        shown: Where examples come from; the questions themselves if None.

    Raises:
        DataError: There are fewer than `shots` examples for a question, or they are of the other
            kind.
    """
    source = shown or questions
    if source.kind != questions.kind:
        raise DataError(
            f"{source.name} holds {source.kind} rows, {questions.name} {questions.kind} rows; "
            "examples must be of the questions' kind"
        )
    by_subject: dict[str, list[Question]] = defaultdict(list)
    for row in source.rows:
        by_subject[row.subject].append(row)
    twins = Counter((row.subject, row.context) for row in source.rows)
    drawn = []
    for index, row in enumerate(questions.rows if shots else ()):
        pool = by_subject[row.subject]
        generator = random.Random(derive_seed(seed, f"examples.{index}"))
        wanted = min(len(pool), shots + twins[row.subject, row.context])
        picked = [one for one in generator.sample(pool, wanted) if one.context != row.context]
        if len(picked) < shots:
            about = f" of subject {row.subject!r}" if row.subject else ""
            raise DataError(
                f"{questions.name}, line {row.line}: {source.name} has {len(picked)} examples"
                f"{about} beside the question itself, wanted {shots}; ask for fewer shots or give "
                "a file of examples"
            )
        drawn.append(picked[:shots])
    return drawn if shots else [[] for _ in questions.rows]


def _kind(row: Any) -> Kind:
    keys = set(row) if isinstance(row, dict) else set()
    kinds: list[Kind] = [kind for kind, wanted in KEYS.items() if keys & set(wanted)]
    if len(kinds) != 1:
        raise ValueError(
            f"got {_shown(row)}, wanted an object with question, choices and label, or one with "
            "context and completion"
        )
    return kinds[0]


def _question(row: Any, kind: Kind, line: int) -> Question:
    missing = [key for key in KEYS[kind] if not isinstance(row, dict) or key not in row]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} missing in {_shown(row)}; wanted {', '.join(KEYS[kind])}, "
            "as in the file's first row"
        )
    subject = _text(row.get("subject") or "", "subject", may_be_empty=True)
    if kind == "cloze":
        context = _text(row["context"], "context", may_be_empty=True)
        answers, label = [_text(row["completion"], "completion")], 0
    else:
        context = _text(row["question"], "question")
        answers, label = _choices(row["choices"]), row["label"]
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(answers):
            raise ValueError(
                f"label is {_shown(label)}, wanted a whole number from 0 to {len(answers) - 1}: "
                "the position of the right choice"
            )
    return Question(
        line=line, context=context, answers=tuple(answers), label=label, subject=subject
    )


def _choices(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) < 2:
        raise ValueError(f"choices is {_shown(value)}, wanted a list of at least two texts")
    choices = [_text(one, "a choice") for one in value]
    if len({one.strip() for one in choices}) < len(choices):
        raise ValueError(f"choices {_shown(value)} holds a text twice, wanted different ones")
    return choices


def _text(value: Any, name: str, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str) or not (value.strip() or may_be_empty):
        raise ValueError(f"{name} is {_shown(value)}, wanted a text that is not empty")
    if _HALF.search(value):
        raise ValueError(f"{name} has half a character, such as \\ud83d alone, wanted whole ones")
    return value


def _shown(value: Any) -> str:
    text = in_one_line(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 80 else f"{text[:79]}…"
