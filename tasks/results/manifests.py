"""Reading a store by its manifests: every folder, every result, and what a result was made from."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tasks.results.digests import DIGEST
from tasks.results.store import MANIFEST, Manifest

ENTRY = re.compile(rf"(?P<digest>{DIGEST.pattern})(?:\.(?P<suffix>partial|writing|removed))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A folder of the store, by what its name says."""

    path: Path
    stage: str
    digest: str
    suffix: str

    @property
    def key(self) -> tuple[str, str]:
        return self.stage, self.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """One step of what a result was made from.

    Attributes:
        role: As what the step after it took it: `base`, `reference`, `prompts`.
        digest: Its identity; of what came from outside a revision or a digest of files.
        manifest: None where it came from outside, or is not in the store any more.
    """

    role: str
    digest: str
    manifest: Manifest | None = None


def list_entries(root: Path) -> Iterator[Entry]:
    """Every folder of the store that Quartet made; links and strange names are left alone."""
    for path in sorted(root.glob("*/*")):
        match = ENTRY.fullmatch(path.name)
        if match and path.is_dir() and not path.is_symlink() and not path.parent.is_symlink():
            yield Entry(
                path=path,
                stage=path.parent.name,
                digest=match["digest"],
                suffix=match["suffix"] or "",
            )


def list_published(
    root: Path, stage: str = "*", *, since: float = 0.0
) -> Iterator[tuple[Path, Manifest]]:
    """Folder and manifest of each published stage, oldest first; unreadable ones are left out.

    Args:
        since: Those that came here before, in seconds of the clock, are left out, however old what
            they hold is.
    """
    found = []
    for path in root.glob(f"{stage}/*/{MANIFEST}"):
        with contextlib.suppress(FileNotFoundError):  # being removed
            if path.stat().st_ctime < since:
                continue
        manifest = read_manifest(path.parent)
        if manifest is not None:
            with contextlib.suppress(FileNotFoundError):  # being removed
                found.append((path.stat().st_mtime, path.parent, manifest))
    for _, folder, manifest in sorted(found, key=lambda one: one[:2]):
        yield folder, manifest


def list_ancestors(root: Path, manifest: Manifest) -> Iterator[Ancestor]:
    """Everything that a result was made from, nearest first, each once."""
    seen: set[str] = set()
    waiting = [manifest]
    while waiting:
        for role, digest in waiting.pop(0).inputs.items():
            if digest not in seen:
                seen.add(digest)
                found = find_manifest(root, digest)
                waiting += [] if found is None else [found]
                yield Ancestor(role=role, digest=digest, manifest=found)


def find_manifest(root: Path, digest: str) -> Manifest | None:
    """The manifest of the stage that published a digest; None if the store does not have it."""
    folders = root.glob(f"*/{digest}") if DIGEST.fullmatch(digest) else ()
    return next(filter(None, map(read_manifest, folders)), None)


def read_manifest(folder: Path) -> Manifest | None:
    """A published stage's manifest; None where it cannot be read or is another stage's."""
    try:
        manifest = Manifest.read(folder)
    except (OSError, ValidationError):
        return None
    key = folder.parent.name, folder.name  # another name is half a result, or being removed
    return manifest if (manifest.stage, manifest.digest) == key else None
