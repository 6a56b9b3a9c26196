"""Texts as token ids: GPT-1's input formats, for every family.

    task             a row is laid out as                                   and read as
    classification   its one or two texts                                   one output a class
    regression       both texts, in both orders                             outputs added
    choice           the context with each option                           one output an option

    family           ids                             what the head reads
    causal           EOS a EOS b EOS                 the state at the last token
    masked           [CLS] a [SEP] b [SEP]           the pooled state at [CLS]; b has type 1
    seq2seq          [BOS] a EOS b EOS, twice        the decoder's state at its last token

What differs from GPT-1: its start, delimiter and extract tokens are new ones; here EOS is all
three, which pretraining has put between documents. BOS stands there if BART's tokenizer has one.

Source: Radford et al., Improving Language Understanding by Generative Pre-Training (2018), section
3.3 and figure 1; Devlin et al., BERT (2019), figure 4; Lewis et al., BART (2020), section 3.1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from models.errors import DataError, ModelError, ParameterError
from models.families.config import Kind
from models.language.tokenizer import encode_texts
from models.rows import read_json

TaskKind: TypeAlias = Literal["classification", "regression", "choice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be understood.

    Attributes:
        kind: Of what is predicted.
        labels: Names of the classes; empty for the other kinds.
    """

    name: str
    kind: TaskKind
    labels: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """Of a head."""
        return len(self.labels) if self.kind == "classification" else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """What stands before, between and behind a row's texts."""

    start: tuple[int, ...]
    between: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaidOut:
    """A row as a network reads it.

    Attributes:
        sequences: Token ids, one list or several (both orders, or one for each option).
        types: Of each token: 0 in the first text, 1 behind its separator.
        label: Number of the class or option, or a score.
        cut: Whether a text was shortened.
    """

    sequences: list[list[int]]
    types: list[list[int]]
    label: float
    cut: bool


def read_task(folder: Path, name: str) -> Task:
    """Read what a task is from the `tasks.json` of a data folder.

    Raises:
        ParameterError: No such task is there.
    """
    tasks = read_json(folder / "tasks.json")
    if name not in tasks:
        raise ParameterError(
            f"the data hold no task {name!r}, wanted one of {', '.join(tasks)}; choose one of them"
        )
    found = tasks[name]
    labels = found["labels"] if found["kind"] == "classification" else ()
    return Task(name=name, kind=found["kind"], labels=tuple(labels))


def special_tokens(tokenizer: Any, kind: Kind) -> SpecialTokens:
    """Choose the special tokens of a family from those that a tokenizer has.

    Raises:
        ModelError: A masked model's tokenizer has no [CLS] or no [SEP].
    """
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    if kind == "causal":
        return SpecialTokens(start=(eos,), between=eos, end=eos)
    if kind == "seq2seq":
        return SpecialTokens(start=() if bos is None else (bos,), between=eos, end=eos)
    first, between = tokenizer.cls_token_id, tokenizer.sep_token_id
    if first is None or between is None:
        raise ModelError(
            f"the tokenizer has CLS {tokenizer.cls_token!r} and SEP {tokenizer.sep_token!r}, a "
            "masked model wants both; give the tokenizer that it was pretrained with"
        )
    return SpecialTokens(start=(first,), between=between, end=between)


def lay_out_rows(
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    task: Task,
    special: SpecialTokens,
    max_tokens: int,
) -> list[LaidOut]:
    """Lay out rows of `texts` and `label`.

    Args:
        max_tokens: Of a sequence, special tokens included.

    Raises:
        DataError: A label is none of the task's, a choice has no options, or no text fits.
    """
    for number, row in enumerate(rows, start=1):
        _check(row, rows[0], task, number)
    ids = iter(encode_texts(tokenizer, [text for row in rows for text in row["texts"]]))
    laid_out = []
    for row in rows:
        texts = [next(ids) for _ in row["texts"]]
        sequences, types, cut = [], [], False
        for group in arrange(texts, task.kind):
            room = max_tokens - len(special.start) - len(group)
            kept = shorten(group, room)
            cut |= kept != group
            one, its_types = join(kept, special)
            sequences.append(one)
            types.append(its_types)
        laid_out.append(
            LaidOut(sequences=sequences, types=types, label=float(row["label"]), cut=cut)
        )
    return laid_out


def arrange(texts: list[list[int]], kind: TaskKind) -> list[list[list[int]]]:
    """Say which texts stand together in each sequence of a row."""
    if kind == "choice":
        context, *options = texts
        return [[context, option] for option in options]
    if kind == "regression" and len(texts) > 1:
        return [texts, texts[::-1]]
    return [texts]


def join(texts: list[list[int]], special: SpecialTokens) -> tuple[list[int], list[int]]:
    """Put special tokens around texts; give the ids and the type of each."""
    ids, types = list(special.start), [0] * len(special.start)
    for number, text in enumerate(texts):
        last = number == len(texts) - 1
        ids += [*text, special.end if last else special.between]
        types += [min(number, 1)] * (len(text) + 1)
    return ids, types


def shorten(texts: list[list[int]], room: int) -> list[list[int]]:
    """Cut the longest text at its end, token by token, until all fit; of equal ones the last.

    Raises:
        ParameterError: There is not one token for each.
    """
    if room < len(texts):
        raise ParameterError(
            f"max_tokens leaves {room} tokens for {len(texts)} texts, wanted at least one for "
            "each; raise max_tokens or the context"
        )
    lengths = [len(text) for text in texts]
    while sum(lengths) > room:
        longest = max(range(len(lengths)), key=lambda at: (lengths[at], at))
        lengths[longest] -= 1
    return [text[:length] for text, length in zip(texts, lengths, strict=True)]


def _check(row: Mapping[str, Any], first: Mapping[str, Any], task: Task, number: int) -> None:
    texts, label = row["texts"], row["label"]
    if task.kind != "choice" and len(texts) != len(first["texts"]):
        raise DataError(
            f"row {number} of task {task.name} has {len(texts)} texts and the first row "
            f"{len(first['texts'])}, wanted the same number in all; repair the row"
        )
    if task.kind == "regression":
        return
    most = len(task.labels) if task.kind == "classification" else len(texts) - 1
    if most < 2 or label not in range(most):
        raise DataError(
            f"row {number} of task {task.name} has label {label!r} and {most} classes or options, "
            "wanted at least two of these and one's number, from 0; repair the row"
        )
