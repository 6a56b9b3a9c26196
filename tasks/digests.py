"""What a stage's result depends on, as one sha256: parameters, seed, inputs, code, libraries."""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["canonical_json", "code_digest", "file_digest", "library_versions", "stage_digest"]

FIRST_PARTY = ("flows", "tasks", "models")

PLUMBING = frozenset(
    f"tasks.{name}"
    for name in (
        "digests",
        "exchange",
        "history",
        "lineage",
        "pipeline_run",
        "registry",
        "reporting",
        "settings",
        "stage",
        "stage_task",
        "store",
        "tracking",
    )
)
"""Modules that carry results but never shape them: a change here makes nothing stale."""

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
        stage: Its name.
        module: The module that runs it; its first-party imports count, transitively.
        parameters: The stage's own slice, plain values.
        seed: The root seed.
        inputs: Digest of each input by role; never a path.
    """
    identity = {
        "stage": stage,
        "parameters": dict(parameters),
        "seed": seed,
        "inputs": dict(inputs),
        "code": code_digest(module),
        "libraries": library_versions(),
    }
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


@functools.cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that shape numbers, and of Python."""
    versions = {name: importlib.metadata.version(name) for name in NUMERIC_LIBRARIES}
    return versions | {"python": ".".join(map(str, sys.version_info[:2]))}


@functools.cache
def code_digest(module: str) -> str:
    """Hash a module and all first-party modules that it imports, wherever in the file.

    Comments, docstrings and layout do not count.
    """
    digest = hashlib.sha256()
    for name in sorted(_reachable(module)):
        digest.update(f"{name}\n{_normalised(_source(name))}\n".encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reachable(module: str) -> set[str]:
    """The module, what it imports and the packages that hold them, but no plumbing."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and name not in PLUMBING:
            found.add(name)
            waiting += _imports(_source(name))
            if package := name.rpartition(".")[0]:
                waiting.append(package)
    return found


def _imports(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in FIRST_PARTY and _find_source(name) is not None:
                yield name


def _source(module: str) -> Path:
    found = _find_source(module)
    if found is None:
        raise ModuleNotFoundError(f"no source file for module {module}")
    return found


def _find_source(module: str) -> Path | None:
    """Find a module's file without importing its parents: some of them import torch."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    for location in (spec and spec.submodule_search_locations) or ():
        base = Path(location).joinpath(*rest)
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.is_file():
                return path
    return None


def _normalised(source: Path) -> str:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    return ast.dump(tree)


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a bare constant: the docstring of its owner or of a name above it."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
