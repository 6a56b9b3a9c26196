"""Checkpoints that are whole or do not count.

A trainer writes `checkpoint-N` into the folder of its checkpoints and then seals it: `SEAL.json`
names every file with its size and SHA-256 and appears last, in one rename. A checkpoint without a
seal, or with a file that differs from it, was torn by a crash, a kill or a full disk. It is never
loaded: the newest one that is intact is, and a warning names the torn one.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from pathlib import Path

SEAL_NAME = "SEAL.json"

logger = logging.getLogger(__name__)


def seal(folder: Path) -> None:
    """Declare a checkpoint complete: hash its files, flush them, write the seal last."""
    (folder / SEAL_NAME).unlink(missing_ok=True)
    files = {}
    for path in _files(folder):
        _flush(path)
        files[path.relative_to(folder).as_posix()] = _fingerprint(path)
    temporary = folder / f".{SEAL_NAME}.tmp"
    temporary.write_text(json.dumps({"files": files}, indent=1, sort_keys=True), encoding="utf-8")
    _flush(temporary)
    temporary.rename(folder / SEAL_NAME)
    _flush(folder)
    _flush(folder.parent)


def is_intact(folder: Path) -> bool:
    """Tell whether a checkpoint was sealed and every file is still what was sealed."""
    try:
        files = json.loads((folder / SEAL_NAME).read_text(encoding="utf-8"))["files"]
        return bool(files) and all(
            _fingerprint(folder / name) == recorded for name, recorded in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def latest(parent: Path) -> Path | None:
    """Find the newest intact checkpoint; warn of every newer one that is torn.

    Returns:
        The checkpoint's folder, or nothing where there is none to resume from.
    """
    for folder in reversed(checkpoints(parent)):
        if is_intact(folder):
            return folder
        logger.warning("checkpoint %s is torn (no seal, or a file differs): not used", folder)
    return None


def prune(parent: Path, keep: int, behind: int = 0) -> None:
    """Delete whatever is older than the newest `keep` sealed checkpoints.

    A folder without a seal that is newer than the newest sealed one may be in the making and stays.

    Args:
        parent: Folder of `checkpoint-N` folders.
        keep: At least 1.
        behind: Those of the last so many steps are kept too, and the newest one from before.
    """
    folders = checkpoints(parent)
    sealed = [folder for folder in folders if (folder / SEAL_NAME).is_file()]
    far = [one for one in sealed if checkpoint_step(one) <= checkpoint_step(sealed[-1]) - behind]
    kept = sealed[max(0, min(len(sealed) - keep, len(far) - 1)) :]
    for folder in folders:
        if kept and folder not in kept and checkpoint_step(folder) < checkpoint_step(kept[-1]):
            shutil.rmtree(folder)


def checkpoints(parent: Path) -> list[Path]:
    """The checkpoints' folders, sealed or not, oldest first."""
    if not parent.is_dir():
        return []
    named = [path for path in parent.iterdir() if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted((path for path in named if path.is_dir()), key=checkpoint_step)


def checkpoint_step(folder: Path) -> int:
    """The step after which a checkpoint was saved."""
    return int(folder.name.rpartition("-")[2])


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _fingerprint(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def _flush(path: Path) -> None:
    """Force a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
