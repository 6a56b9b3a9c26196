"""Which files a source means: a file, a folder of files, or a glob."""

import glob
import itertools
import re
from pathlib import Path

from models.errors import DataError
from models.files import listed, reading, shown, user_path

TEXT_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")
PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")
_TABLE_ENDINGS = (".parquet", ".arrow")
_ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz")
ENDINGS = (
    *TEXT_ENDINGS,
    *_TABLE_ENDINGS,
    *_ARCHIVE_ENDINGS,
    *map("".join, itertools.product((*TEXT_ENDINGS, ".parquet", ".tar"), PACKED_ENDINGS)),
)
"""File endings that can be read, in lower case; a file's own may be in any letter case."""

MOST_FILES = 10_000
_PAPERS = re.compile(
    r"(readme|licen[cs]e|copying|notice|changelog|citation|requirements)\b.*", re.IGNORECASE
)
_DESCRIPTIONS = (
    "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "metadata.json",
)  # fmt: skip


def ending_of(name: str) -> str:
    """The longest of `ENDINGS` that a name ends with in any letter case; empty for none."""
    lowered = name.lower()
    return max((ending for ending in ENDINGS if lowered.endswith(ending)), key=len, default="")


def left_out(name: str) -> str:
    """Why a file of a folder or an archive holds no rows, by its name; empty if it may."""
    if name.startswith("."):
        return "hidden"
    if _PAPERS.fullmatch(name):
        return "about the data"
    if name.lower() in _DESCRIPTIONS:
        return "about the data"
    return "" if ending_of(name) else "no known ending"


def expand(source: str, *, notes: list[str] | None = None) -> list[Path]:
    """Find the files that a source means, in the order of their names.

    Hidden files, papers (README, LICENSE) and files of unknown endings are left out of folders and
    globs.

    Args:
        source: A file, a folder (with the folders in it), or a glob.
        notes: Is told which files were left out.

    Raises:
        DataError: There is no such file, or none of them can be read.
    """
    if "://" in source:
        raise DataError(
            f"{shown(source)} is an address, which is not fetched; wanted a file, a folder or a "
            "glob; download it, or name a dataset of the hub as OWNER/NAME"
        )
    path = user_path(source)
    with reading(source, "a file, a folder or a glob"):
        if path.is_dir():
            found = sorted(one for one in path.rglob("*") if not one.is_dir())
            names = {one: one.relative_to(path).parts for one in found}
        elif path.exists() or path.is_symlink() or not glob.has_magic(source):
            return [path]  # whatever is wrong with it is said where it is read
        else:
            found = sorted(map(Path, glob.glob(str(path), recursive=True)))
            found = [one for one in found if not one.is_dir()]
            names = {one: (one.name,) for one in found}
    if len(found) > MOST_FILES:
        raise DataError(
            f"{shown(source)} holds more than {MOST_FILES:,} files; wanted the files of one "
            "dataset; correct the path"
        )
    reasons = {
        one: next(filter(None, (*("hidden" for part in parts if part.startswith(".")),
                                left_out(parts[-1]))), "")
        for one, parts in names.items()
    }  # fmt: skip
    kept = [one for one in found if not reasons[one]]
    if not kept:
        got = listed([str(one.name) for one in found]) or "nothing"
        raise DataError(
            f"{shown(source)} has no file that can be read: got {got}; wanted files ending in "
            f"{', '.join(TEXT_ENDINGS + _TABLE_ENDINGS)}, packed or not; correct the path"
        )
    others = [f"{one.name} ({reasons[one]})" for one in found if reasons[one]]
    if others and notes is not None:
        notes.append(f"left out of {shown(source)}: {listed(others)}")
    return kept
