"""Writes the part of a corpus that is worth training on, and what was dropped with its reason."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from models.errors import DataError
from models.rows import write_json, write_rows
from tasks.data.formats import Row
from tasks.data.inspection.sampling import placed_rows
from tasks.data.selection.config import SelectionConfig
from tasks.data.selection.duplicates import DuplicateFinder, Duplicates
from tasks.data.selection.rules import broken_rule

TRAIN, HELD_OUT = "corpus_train.jsonl", "corpus_heldout.jsonl"
DROPPED, SELECTION = "dropped.jsonl", "selection.json"


def select_corpus(data: Path, out: Path, config: SelectionConfig) -> dict[str, float]:
    """Write the folder again with a smaller training corpus, `dropped.jsonl` and `selection.json`.

    Rows that stay are written as they are, byte for byte and in their order.

    Args:
        data: Folder with the corpus; all its other files are copied.
        out: Empty folder.

    Returns:
        Metrics: rows read, kept and dropped, also by reason; held-out documents in the corpus.

    Raises:
        DataError: No document is left.
    """
    finder = DuplicateFinder(data / HELD_OUT, data / TRAIN, config)
    finder.add_heldout(placed_rows(data / HELD_OUT))
    reasons: dict[int, str] = {}
    for number, placed in enumerate(placed_rows(data / TRAIN)):
        if reason := broken_rule(placed.row["text"], config):
            reasons[number] = reason
        else:
            finder.add(number, placed)
    found = finder.find()
    reasons |= found.reasons
    for path in sorted(data.iterdir()):
        if path.name != TRAIN:
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, out / path.name)
    kept, size = _write_kept(data / TRAIN, out / TRAIN, reasons)
    write_rows(out / DROPPED, _dropped(data / TRAIN, reasons, found))
    counts = Counter(reasons.values())
    if not kept:
        raise DataError(
            f"of {kept + len(reasons):,} documents of the corpus none is left "
            f"({dict(counts.most_common())}); wanted at least one; give more texts or looser bounds"
        )
    before = (data / TRAIN).stat().st_size
    metrics = {
        "select/rows": float(kept + len(reasons)),
        "select/kept": float(kept),
        "select/dropped": float(len(reasons)),
        "select/kept_bytes": size / before,
        **{
            f"select/dropped_for/{reason.replace(' ', '_')}": float(n)
            for reason, n in counts.items()
        },
        "select/heldout_exact": float(found.heldout_exact),
        "select/heldout_near": float(found.heldout_near),
        "select/unchecked": float(found.unchecked),
    }
    write_json(out / SELECTION, {"reasons": dict(counts.most_common()), "metrics": metrics})
    return metrics


def _write_kept(source: Path, target: Path, reasons: dict[int, str]) -> tuple[int, int]:
    """Copy the rows that stay; their number and bytes."""
    kept = size = 0
    with source.open("rb") as lines, target.open("wb") as file:
        for number, line in enumerate(lines):
            if number not in reasons:
                file.write(line)
                kept, size = kept + 1, size + len(line)
    return kept, size


def _dropped(source: Path, reasons: dict[int, str], found: Duplicates) -> Iterator[Row]:
    with source.open("rb") as lines:
        for number, line in enumerate(lines):
            if number in reasons:
                of = {"of": found.of[number]} if number in found.of else {}
                yield {**json.loads(line), "reason": reasons[number], **of}
