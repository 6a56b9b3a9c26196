"""The stage store: published results under their digest, whole or absent.

    store/<stage>/<digest>/            a result with its MANIFEST.json
    store/<stage>/<digest>.partial/    checkpoints of a stage that has not finished
    store/<stage>/<digest>.writing/    a result being written; never read

It works with every server down; MLflow shows lineage but is not the truth.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from pydantic import BaseModel, Field, ValidationError

from models.errors import StoreError
from tasks.results.digests import file_digest

MANIFEST = "MANIFEST.json"


class StageRef(BaseModel, frozen=True):
    """A published stage: all that passes from one stage to the next.

    Attributes:
        digest: Identity of the result; the store finds the folder by it.
        run_id: MLflow run that made it; empty if it was made untracked.
        reused: Whether this pipeline run found it finished.
        seconds: What this pipeline run spent on it.
    """

    stage: str
    digest: str
    run_id: str = ""
    reused: bool = False
    seconds: float = 0.0
    metrics: dict[str, float] = Field(default_factory=dict)


class FileEntry(BaseModel):
    """One file of a published stage."""

    sha256: str
    size: int


class Manifest(BaseModel, frozen=True):
    """What a published stage is and what made it.

    Attributes:
        peak_gib: The most memory that its process had held by its end, or the GPU that trained it;
            0 where it was not measured.
        scale: In how many processes it learned, and how they shared models; bits depend on it.
    """

    stage: str
    digest: str
    seed: int
    parameters: dict[str, Any]
    inputs: dict[str, str]
    libraries: dict[str, str]
    code: str
    run_id: str
    seconds: float
    metrics: dict[str, float]
    peak_gib: float = 0.0
    scale: dict[str, int | str] = Field(default_factory=dict)
    files: dict[str, FileEntry]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a folder's manifest; OSError where there is none, ValidationError if damaged."""
        return cls.model_validate_json((folder / MANIFEST).read_bytes())


class Store:
    """A folder of published stages, which need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, stage: str, digest: str) -> Path:
        """Where a published stage lies, or would."""
        return self.root / stage / digest

    def partial(self, stage: str, digest: str) -> Path:
        """Where an unfinished stage keeps its checkpoints; made if absent."""
        folder = self.root / stage / f"{digest}.partial"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def lock(self, stage: str, digest: str, *, on_wait: Callable[[], None]) -> Iterator[None]:
        """Keep two runs from computing the same thing; the second waits and then reuses."""
        path = self.root / stage / f"{digest}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def find(self, stage: str, digest: str) -> Manifest | None:
        """Return the manifest of a published stage after verifying its files; None if absent.

        Raises:
            StoreError: It is there but damaged.
        """
        folder = self.folder(stage, digest)
        return verify(folder, stage, digest) if folder.exists() else None

    def open(self, ref: StageRef) -> Path:
        """Return the folder of a published stage after verifying its files.

        Raises:
            StoreError: It is absent or damaged.
        """
        if self.find(ref.stage, ref.digest) is None:
            raise StoreError(
                f"stage {ref.stage} {ref.digest[:12]} is not in the store {self.root}; run the "
                "stage first, or set QUARTET_HOME to the home folder that holds it"
            )
        return self.folder(ref.stage, ref.digest)

    def resolve(self, name: str) -> StageRef:
        """Turn `stage/digest`, the digest whole or its beginning, into a reference.

        Raises:
            StoreError: Nothing or more than one published stage goes by that name, or it is
                damaged.
        """
        stage, _, beginning = name.partition("/")
        found = [
            path.name
            for path in sorted((self.root / stage).glob(f"{beginning}*"))
            if (path / MANIFEST).is_file() and "." not in path.name
        ]
        if len(found) != 1 or not beginning:
            raise StoreError(
                f"{name!r} names {len(found)} published stages in {self.root}, wanted exactly one "
                "as stage/digest, such as sft/3fa81c2b; the tags input.* of MLflow's runs show them"
            )
        manifest = verify(self.folder(stage, found[0]), stage, found[0])
        return StageRef(
            stage=stage,
            digest=manifest.digest,
            run_id=manifest.run_id,
            reused=True,
            metrics=manifest.metrics,
        )

    def writing(self, stage: str, digest: str) -> Path:
        """Make the empty folder that a result is written into."""
        folder = self.root / stage / f"{digest}.writing"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def publish(self, written: Path, stage: str, digest: str) -> None:
        """Move a complete folder to its place in one step and drop the checkpoints."""
        for path in sorted(written.rglob("*")):
            fsync(path)
        fsync(written)
        target = self.folder(stage, digest)
        os.rename(written, target)
        fsync(target.parent)
        self.drop_partial(stage, digest)

    def drop_partial(self, stage: str, digest: str) -> None:
        """Remove the checkpoints of a published stage; a kill may have left them."""
        shutil.rmtree(self.root / stage / f"{digest}.partial", ignore_errors=True)


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Size and sha256 of every file below a folder but its manifest."""
    return {
        name: FileEntry(sha256=file_digest(folder / name), size=(folder / name).stat().st_size)
        for name in _file_names(folder)
    }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a folder's manifest."""
    text = json.dumps(manifest.model_dump(), indent=2, sort_keys=True, ensure_ascii=False)
    write_whole(folder / MANIFEST, text + "\n")


def verify(folder: Path, stage: str, digest: str, *, contents: bool = True) -> Manifest:
    """Read a folder's manifest and compare it with what it should be, and every file with it.

    Args:
        contents: Whether files are read; if not, only their names and sizes are compared.

    Raises:
        StoreError: It is another stage's result, or a file is missing, differs or is one too many;
            the message names it and the remedy.
    """
    remedy = (
        f"restore the file from a copy, or remove the folder {folder} to have the stage fetched "
        "from MLflow or computed again"
    )
    try:
        manifest = Manifest.read(folder)
    except (OSError, ValidationError) as error:
        why = error if isinstance(error, OSError) else error.errors()[0]["msg"]
        raise StoreError(f"{folder / MANIFEST} cannot be read ({why}); {remedy}") from error
    if (manifest.stage, manifest.digest) != (stage, digest):
        raise StoreError(
            f"{folder} holds {manifest.stage} {manifest.digest[:12]}, wanted {stage} "
            f"{digest[:12]}; {remedy}"
        )
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise StoreError(f"{path} is missing from a published stage; {remedy}")
        if not contents and path.stat().st_size == entry.size:
            continue
        got = file_digest(path)
        if got != entry.sha256:
            raise StoreError(
                f"{path} is damaged: got sha256 {got[:12]} and {path.stat().st_size} bytes, wanted "
                f"{entry.sha256[:12]} and {entry.size} bytes; {remedy}"
            )
    for name in _file_names(folder):
        if name not in manifest.files:
            raise StoreError(
                f"{folder / name} does not belong to the published stage, whose {MANIFEST} does "
                "not name it; move the file away"
            )
    return manifest


def _file_names(folder: Path) -> list[str]:
    """Every file below a folder but its manifest, relative and in order."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != MANIFEST)


def write_whole(path: Path, text: str) -> None:
    """Write a file in the place of an older one, in one step that a power cut cannot split."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        fsync(scratch)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
