"""Sources named one by one: `data.corpus` and its like, and the files that they mean.

A field holds one or several sources, separated by commas: files, folders, globs, or ids of hub
datasets (OWNER/NAME[:CONFIGURATION][@REVISION]); a corpus's may have weights (SOURCE=0.7). A name
with a comma stands in double quotes, unless it is the only one.
"""

import contextlib
import glob
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from models.errors import DataError
from models.files import listed, shown, user_path
from tasks.data.config import DataConfig
from tasks.data.formats import Collection
from tasks.data.hub import HELD_OUT
from tasks.data.reading.paths import ending_of, expand

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(:[\w.-]+)?(@[\w./-]+)?")
_PART = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*(?:=([^,]*))?|([^,]*?))\s*(?:,|$)', re.DOTALL)
"""A name in quotes with its weight, or whatever stands between two commas."""
# Some datasets hold files for several stages, named such as train_sft and test_prefs.
_KINDS: dict[Collection, str] = {"demonstrations": "sft", "preferences": "prefs"}


class NamedSource(NamedTuple):
    """One source of a field, as it was given, without its weight."""

    name: str
    weight: float | None = None

    @property
    def is_local(self) -> bool:
        """Whether it names files; otherwise a dataset of the hub."""
        return (
            bool(ending_of(self.name))
            or glob.has_magic(self.name)
            or not _HUB_ID.fullmatch(self.name)
            or user_path(self.name).exists()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One file, what it is read for, and who named it.

    Attributes:
        label: Its name, below the folder that was named.
        notes: What had to be decided to find it.
    """

    collection: Collection
    heldout: bool
    label: str
    path: Path
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the file; 0 where there is none, which is said when it is read."""
        return self.path.stat().st_size if self.path.exists() else 0


def fields(config: DataConfig) -> list[tuple[str, Collection, bool, list[NamedSource]]]:
    """The sources that are given: name of the field, collection, whether held out, sources.

    Raises:
        DataError: A weight is wrong, or a source stands there twice.
    """
    given: list[tuple[str, Collection, bool]] = [
        ("corpus", "corpus", False),
        ("demonstrations", "demonstrations", False),
        ("preferences", "preferences", False),
        ("prompts", "prompts", False),
        ("heldout_preferences", "preferences", True),
        ("heldout_prompts", "prompts", True),
    ]
    found = [(name, each, heldout, _parsed(config, name)) for name, each, heldout in given]
    return [one for one in found if one[-1]]


def _parsed(config: DataConfig, field: str) -> list[NamedSource]:
    text = getattr(config, field).strip()
    if _is_there(text):
        return [NamedSource(text)]
    parts = [found.groups() for found in _PART.finditer(text)]
    sources = [
        _one(plain, field) if quoted is None else _quoted(quoted, weight, field)
        for quoted, weight, plain in parts
        if quoted or plain
    ]
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise DataError(
            f"data.{field}: got a source twice in {listed(names)}; wanted different ones; to "
            "repeat one, give weights (SOURCE=0.7)"
        )
    if len({source.weight is None for source in sources}) > 1:
        raise DataError(
            f"data.{field}: got weights of some sources only; wanted one for each or for none; "
            "add the missing ones (SOURCE=1)"
        )
    return sources


def _is_there(text: str) -> bool:
    """Whether a text as a whole is the name of a file; several may be longer than any name."""
    with contextlib.suppress(DataError):
        return bool(text) and user_path(text).exists()
    return False


def _one(part: str, field: str) -> NamedSource:
    name, equals, text = part.rpartition("=")
    weight = None
    with contextlib.suppress(ValueError):
        weight = float(text)
    if not equals or weight is None or user_path(part).exists():
        return NamedSource(part)
    return _weighted(name.strip(), text, field)


def _quoted(name: str, weight: str | None, field: str) -> NamedSource:
    name = name.replace('""', '"')
    return NamedSource(name) if weight is None else _weighted(name, weight, field)


def _weighted(name: str, text: str, field: str) -> NamedSource:
    if field != "corpus":
        raise DataError(
            f"data.{field}: {shown(f'{name}={text}')} has a weight; wanted none, since only texts "
            "of the corpus are weighted; leave it out"
        )
    weight = math.nan
    with contextlib.suppress(ValueError):
        weight = float(text)
    if not 0 < weight < math.inf:
        raise DataError(f"data.{field}: got weight {text} of {shown(name)}; wanted one above 0")
    return NamedSource(name, weight)


def quote(names: Iterable[str]) -> str:
    """Several names as the text of a field."""
    return ",".join('"' + name.replace('"', '""') + '"' for name in names)


def find(collection: Collection, heldout: bool, source: NamedSource) -> list[Found]:
    """Find the files of a local source.

    In folders and globs, files named test or validation are held out. Of files named after stages
    (train_sft, train_prefs) only the collection's own are taken.

    Raises:
        DataError: There is nothing of that name, or nothing to train on.
    """
    path = user_path(source.name)
    notes: list[str] = []
    files = expand(source.name, notes=notes)
    if files == [path]:
        if not path.exists():
            raise DataError(
                f"{shown(source.name)} for {collection}: got nothing there; wanted a file, a "
                "folder, a glob or a hub id OWNER/NAME[@REVISION]; correct the name"
            )
        return [_found(collection, heldout, source, path, path.name)]
    names = {one: one.relative_to(path).as_posix() if path.is_dir() else one.name for one in files}
    words = {one: set(re.split(r"[^a-z0-9]+", name.lower())) for one, name in names.items()}
    kind = _KINDS.get(collection, "")
    if any(kind in each for each in words.values()):
        others = [names[one] for one in files if kind not in words[one]]
        notes += [f"left out, since not named {kind}: {listed(others)}"] if others else []
        files = [one for one in files if kind in words[one]]
    sides = {one: heldout or not words[one].isdisjoint(HELD_OUT) for one in files}
    if not heldout and all(sides.values()):
        raise DataError(
            f"{shown(source.name)} for {collection}: got only files named test or validation "
            f"({listed(list(names.values()))}), which are held out; wanted some to train on; name "
            "a file itself to train on it"
        )
    return [
        _found(collection, sides[one], source, one, names[one], notes if one is files[0] else ())
        for one in files
    ]


def _found(
    collection: Collection,
    heldout: bool,
    source: NamedSource,
    path: Path,
    label: str,
    notes: Sequence[str] = (),
) -> Found:
    return Found(
        collection=collection,
        heldout=heldout,
        label=label,
        path=path,
        source=source.name,
        notes=tuple(notes),
    )
