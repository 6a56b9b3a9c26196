"""Files as people have them: parallel text, tables of sentence pairs, and opinions with labels.

Which file is for training and which is held out is told by a word in its name: `train` or
`training`, and `test`, else `validation`, `valid`, `val`, `dev`, `eval`, `heldout` or `trial`.
Letter case of columns does not count.
"""

import contextlib
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.errors import DataError
from models.files import digest_file, open_file, shorten, shown, user_path
from tasks.data.cleaning import clean_text
from tasks.data.conversion.cells import is_absent, number, text_cell, word
from tasks.data.conversion.columns import plain_name
from tasks.data.conversion.records import RowProblem
from tasks.data.files import read_file
from tasks.data.foundations.config import FOLDERS, FoundationsDataConfig
from tasks.data.hub import HELD_OUT
from tasks.data.limits import most_bytes
from tasks.data.reading.encodings import choose_decoding
from tasks.data.reading.packing import open_content

Row = dict[str, Any]

ENTAILMENT = ("entailment", "neutral", "contradiction")
COLUMNS = {
    "first": ("sentence_a", "premise", "sentence1"),
    "second": ("sentence_b", "hypothesis", "sentence2"),
    "label": ("entailment_judgment", "entailment_label", "gold_label", "label"),
    "score": ("relatedness_score", "similarity", "score"),
}


def files_of(config: FoundationsDataConfig) -> dict[str, list[Path]]:
    """The files in each folder, sorted.

    Raises:
        DataError: A folder is not there, or is empty.
    """
    found: dict[str, list[Path]] = {}
    for name in FOLDERS:
        folder = user_path(getattr(config, name))
        if not folder.is_dir():
            raise DataError(
                f"data.{name}: {shown(folder)} is no folder; wanted one with train and test files"
            )
        found[name] = sorted(one for one in folder.iterdir() if one.is_file())
    return found


def fingerprint(config: FoundationsDataConfig) -> str:
    """The sha256 of all names and contents, for the stage's digest."""
    digest = hashlib.sha256(config.source.encode())
    if config.source == "files":
        for name, paths in files_of(config).items():
            for path in paths:
                digest.update(
                    f"\0{name}\0{path.name}\0{digest_file(path, most_bytes=sys.maxsize)}".encode()
                )
    return digest.hexdigest()


def read_translation(paths: list[Path], *, train: bool) -> list[Row]:
    """Read parallel text; English is the source where it is one of the two languages.

    Returns:
        {"source", "target"}; pairs with an empty side are left out.

    Raises:
        DataError: There is not one file of each of two languages, or they differ in their number of
            lines.
    """
    chosen = _of_part(paths, train=train)
    named = [path for path in chosen if _language(path)]
    by_language = {_language(path): path for path in named}
    if len(by_language) != 2 or len(named) != 2:
        raise DataError(
            f"data.translation: got {sorted(by_language) or 'no'} languages among "
            f"{[path.name for path in chosen]}; wanted two files such as train.en and train.fr"
        )
    source, target = sorted(by_language, key=lambda one: (one != "en", one))
    sides = [_lines(by_language[one]) for one in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise DataError(
            f"data.translation: {by_language[source].name} has {len(sides[0])} lines and "
            f"{by_language[target].name} {len(sides[1])}; wanted the same number, line by line"
        )
    pairs = zip(*sides, strict=True)
    return [{"source": one, "target": other} for one, other in pairs if one and other]


def read_sentence_pairs(paths: list[Path], *, train: bool) -> tuple[list[Row], list[Row]]:
    """Read entailment and similarity; a row without the one has it left out.

    Returns:
        Rows of both, {"texts", "label"}.

    Raises:
        DataError: The two sentences, or both their labels, are in no known column, or a score is
            no number.
    """
    entailment: list[Row] = []
    similarity: list[Row] = []
    for path in _of_part(paths, train=train):
        for at, row in _rows(path):
            values = {
                kind: next((row[name] for name in names if not is_absent(row.get(name))), None)
                for kind, names in COLUMNS.items()
            }
            texts = [values["first"], values["second"]]
            if not all(isinstance(text, str) for text in texts):
                raise DataError(
                    f"{path.name}, row {at}: got columns {sorted(row)} without two sentences in "
                    "them; wanted two, such as sentence_A and sentence_B, with entailment_judgment "
                    "or relatedness_score"
                )
            label = str(values["label"]).lower()
            if label in ENTAILMENT:
                entailment.append({"texts": texts, "label": ENTAILMENT.index(label)})
            with _in_row(path, at):
                score = number(values["score"], "the score")
            if score is not None:
                similarity.append({"texts": texts, "label": score})
    if not entailment or not similarity:
        raise DataError(
            f"data.sentence_pairs: got {len(entailment)} rows with entailment and "
            f"{len(similarity)} with relatedness; wanted some of both in a "
            f"{'train' if train else 'test'} file"
        )
    return entailment, similarity


def read_opinions(paths: list[Path], *, train: bool) -> list[Row]:
    """Read texts with a label of 0 or 1, or pairs whose chosen text is positive.

    Returns:
        {"texts", "label"}; a text that stands there twice counts once.

    Raises:
        DataError: A row is neither, or holds messages in the place of texts.
    """
    found: dict[str, int] = {}
    for path in _of_part(paths, train=train):
        for at, row in _rows(path):
            if "chosen" in row and "rejected" in row:
                with _in_row(path, at):
                    prompt = row.get("prompt")
                    prompt = "" if is_absent(prompt) else text_cell(prompt, "prompt")
                    sides = [text_cell(row[name], name) for name in ("chosen", "rejected")]
                for label, side in zip((1, 0), sides, strict=True):
                    found[f"{prompt}{side}".strip()] = label
            elif word(row.get("label")) in ("0", "1") and isinstance(row.get("text"), str):
                found[row["text"].strip()] = int(word(row["label"]))
            elif "text" not in row and "label" not in row:
                break  # a file of prompts
            else:
                raise DataError(
                    f"{path.name}, row {at}: got columns {sorted(row)} and label "
                    f"{shorten(repr(row.get('label')), 40)}; wanted text and label "
                    "(0 or 1), or chosen and rejected"
                )
    if not found:
        raise DataError(
            f"data.opinions: no {'train' if train else 'test'} file holds rows; wanted texts with "
            "a label, or pairs chosen / rejected"
        )
    return [{"texts": [text], "label": label} for text, label in found.items()]


def read_corpus(paths: list[Path]) -> list[str]:
    """Texts of files named pretrain, one each row; none where there is no such file.

    Raises:
        DataError: Such a file holds no texts.
    """
    found: list[str] = []
    for path in paths:
        if path.name.lower().startswith("pretrain"):
            cells = [row.get("text") for _, row in _rows(path)]
            texts = [text for text in cells if isinstance(text, str) and text.strip()]
            if not texts:
                raise DataError(
                    f"{path.name}: got no texts; wanted a column text; rename the column, or "
                    "remove the file"
                )
            found += texts
    return found


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a file with their numbers: columns in lower case, texts cleaned."""
    for at, row in enumerate(read_file(path, text="lines"), 1):
        cells = {plain_name(name): cell for name, cell in row.items()}
        yield at, {k: clean_text(v) if isinstance(v, str) else v for k, v in cells.items()}


@contextlib.contextmanager
def _in_row(path: Path, number: int) -> Iterator[None]:
    """Say in which row of a file a cell is not what it should be."""
    try:
        yield
    except RowProblem as problem:
        raise DataError(
            f"{path.name}, row {number}: {problem}; repair the row or leave it out"
        ) from problem


def _of_part(paths: list[Path], *, train: bool) -> list[Path]:
    """The training files, or the first kind of held-out ones that there is."""
    for part in ("train", "training") if train else (*HELD_OUT, "trial"):
        found = [path for path in paths if part in re.split(r"[^a-z]+", path.name.lower())]
        if found:
            return found
    wanted = "train" if train else "test"
    raise DataError(f"got {[path.name for path in paths]}; wanted a file with {wanted} in its name")


def _language(path: Path) -> str:
    """The ending of a name such as train.en.gz; empty where it has none."""
    found = re.search(r"\.([a-z]{2,3})(?:\.(?:gz|bz2|xz|zst))?$", path.name.lower())
    return found[1] if found else ""


def _lines(path: Path) -> list[str]:
    """Every line, empty ones included, for lines are pairs by their number."""
    with open_file(path, most_bytes=most_bytes()) as file:
        content = open_content(str(path), file, held=True)
        lines = choose_decoding(content, "", []).lines(content)
        return [clean_text(line).strip() for line in lines]
