"""What a stage's result depends on, as one sha256: parameters, seed, inputs, code, libraries."""

import functools
import hashlib
import importlib.metadata
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.version import Version

from models.progress import Meter
from tasks.results.code import code_digest

CHUNK = 2**24
"""Bytes of a file that are read at once."""

DIGEST = re.compile(r"[0-9a-f]{64}")
"""What names a result."""

NUMERIC_LIBRARIES = (
    "accelerate",
    "datasets",
    "numpy",
    "peft",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
)


def canonical_json(value: Any) -> str:
    """Write a value the same way whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def stage_digest(
    *, stage: str, module: str, parameters: Mapping[str, Any], seed: int, inputs: Mapping[str, str]
) -> str:
    """Name a stage's result before it exists.

    Args:
        module: The module that runs it; what its code refers to counts, transitively.
        parameters: The stage's own slice, plain values.
        inputs: Digest of each input by role; never a path.
    """
    identity = {
        "stage": stage,
        "parameters": dict(parameters),
        "seed": seed,
        "inputs": dict(inputs),
        "code": code_digest(module),
        "libraries": _releases(),
    }
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


@functools.cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that shape numbers, and of Python: a manifest's."""
    versions = {name: importlib.metadata.version(name) for name in NUMERIC_LIBRARIES}
    return versions | {"python": ".".join(map(str, sys.version_info[:2]))}


def _releases() -> dict[str, str]:
    """What of the versions names a result.

    Neither Python's nor a build's (`+cpu`, `+cu130`): all gave the same weights to the byte on a
    CPU, so that machines which differ in these share results. The manifest tells them.
    """
    versions = library_versions()
    return {name: Version(versions[name]).public for name in NUMERIC_LIBRARIES}


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes."""
    digest = hashlib.sha256()
    meter = Meter(f"checking {path.name}", path.stat().st_size / 1e6, "MB")
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            meter.add(len(chunk) / 1e6)
    return digest.hexdigest()
