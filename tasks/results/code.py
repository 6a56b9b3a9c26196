"""The digest of a stage's code: what can change a number, and nothing else.

A module is cut into its top-level definitions. Those that the stage's module refers to, directly or
through others, count; each is hashed with the contents of what its names stand for, never with
their modules' names. So a definition can move, a module can be split or merged and imports can be
sorted without effect, while a changed constant, default, callee or import is a change.

Left out are texts for people: docstrings, comments, log lines, arguments of errors, titles and
descriptions of fields; and the rooms that carry or show results but never shape them.
"""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path

from models.kept_files import open_kept
from tasks.results.syntax import defined_names, imported_names, loaded_names, written
from tasks.results.texts import WithoutTexts
from tasks.settings import load_settings

FIRST_PARTY = ("flows", "tasks", "models")

EXEMPT = (
    "models.errors",
    "models.evaluation.wording",
    "tasks.catalogue",
    "tasks.escaping",
    "tasks.machine",
    "tasks.registry",
    "tasks.reports",
    "tasks.results",
    "tasks.run",
    "tasks.settings",
    "tasks.tracking",
)
"""What carries results but never shapes them: a change makes nothing stale."""

WHOLE = ""
"""Stands for a module as it is imported: its statements that are no definitions."""


@dataclass(frozen=True, slots=True, order=True)
class _Name:
    module: str
    name: str


@dataclass(frozen=True, slots=True)
class _Definition:
    """One definition: its own text without words for people, and what its names stand for."""

    text: str
    meanings: dict[str, _Name | str] = field(default_factory=dict)
    reaches: set[_Name] = field(default_factory=set)


@functools.cache
def code_digest(module: str) -> str:
    """Hash a module and every definition that it refers to, however far away.

    It takes seconds, so a home remembers it for as long as no source file changes
    (`tasks/results/cache.py`).

    Raises:
        ModuleNotFoundError: There is no such module, or it imports what does not exist.
    """
    settings = load_settings()
    if settings.root.is_dir():
        with contextlib.suppress(OSError):  # a home that cannot be written
            path = settings.cache / "code" / _house() / module
            file, facts = open_kept(path, lambda _: {"digest": _computed(module)})
            file.close()
            return str(facts["digest"])
    return _computed(module)


@functools.cache
def _house() -> str:
    """Hash all that a digest may depend on: every source file, whole, and who reads them."""
    found = hashlib.sha256(repr((sys.version_info[:2], FIRST_PARTY, EXEMPT)).encode())
    for folder in filter(None, map(_find_source, FIRST_PARTY)):
        for path in sorted(folder.parent.rglob("*.py")):
            source = _read(path)
            found.update(f"{path.relative_to(folder.parents[1])} {len(source)}\n".encode())
            found.update(source)
    return found.hexdigest()


def _tree(source: bytes) -> ast.Module:
    """Parse; Python 3.11 fails where a finalizer, or a thread that it lets in, parses meanwhile.

    Source: the recursion depth that CPython's issue 106905 is about is one for all threads.
    """
    for _ in range(10):
        with contextlib.suppress(SystemError):
            return ast.parse(source)
    return ast.parse(source)


_read = functools.cache(Path.read_bytes)
"""One reading for both, so that a file that changes meanwhile is remembered as what was hashed."""


def _computed(module: str) -> str:
    hashes = {_full(name) for name in _reach(module) if _definition(name).text}
    return _hash("\n".join(sorted(hashes)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def reached_definitions(module: str) -> set[tuple[str, str]]:
    """Name the definitions, as (module, name), that count for a stage's module."""
    return {(one.module, one.name) for one in _reach(module)}


def _full(name: _Name) -> str:
    definition = _definition(name)
    lines = [definition.text]
    for local, target in sorted(definition.meanings.items()):
        meaning = target if isinstance(target, str) else _hash(_definition(target).text)
        lines.append(f"{local} = {meaning}")
    return _hash("\n".join(lines))


def _reach(module: str) -> set[_Name]:
    found: set[_Name] = set()
    waiting = [_Name(module, WHOLE), *(_Name(module, name) for name in _parse(module).definitions)]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += [_Name(name.module, WHOLE), *_definition(name).reaches]
    return found


def _definition(name: _Name) -> _Definition:
    return _parse(name.module).definition(name.name)


class _Module:
    def __init__(self, name: str, source: Path) -> None:
        self.name = name
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, str] = {}
        self._rest: list[ast.stmt] = []
        self._cut: dict[str, _Definition] = {}
        tree = _tree(_read(source))
        for statement in tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                self.imports |= imported_names(statement)
            elif names := defined_names(statement):
                for defined in names:
                    self.definitions.setdefault(defined, []).append(statement)
            else:
                self._rest.append(statement)
                self.imports |= imported_names(statement)

    def definition(self, name: str) -> _Definition:
        if name not in self._cut:
            found = self._rest if name == WHOLE else self.definitions[name]
            self._cut[name] = self._resolve(found, whole=name == WHOLE)
        return self._cut[name]

    def _resolve(self, statements: list[ast.stmt], *, whole: bool) -> _Definition:
        body = ast.Module(body=statements, type_ignores=[])
        local = imported_names(body)
        WithoutTexts().visit(body)
        definition = _Definition("\n".join(map(written, body.body)))
        for dotted in loaded_names(body):
            self._bind(definition, dotted, local)
        if whole:  # what is imported, and the packages that hold it, run their statements too
            imported = [*self.imports.values(), self.name.rpartition(".")[0]]
            modules = filter(None, map(_module_of, imported))
            definition.reaches.update(_Name(module, WHOLE) for module in modules)
        return definition

    def _bind(self, definition: _Definition, dotted: str, local: dict[str, str]) -> None:
        """Say what a name of a definition stands for; builtins and locals stand for themselves."""
        first, _, rest = dotted.partition(".")
        target = local.get(first) or self.imports.get(first)
        if target is None:
            if first in self.definitions:
                definition.meanings[first] = _Name(self.name, first)
                definition.reaches.add(_Name(self.name, first))
        elif target.split(".")[0] not in FIRST_PARTY:
            definition.meanings[first] = target
        elif not _is_exempt(target):
            found = _find(target, rest)
            definition.reaches.update(found, (_Name(one.module, WHOLE) for one in found))
            if len(found) == 1:  # else a module as a whole, by whatever name
                definition.meanings[dotted if found[0].name != first else first] = found[0]


def _find(target: str, rest: str) -> list[_Name]:
    """Find the definitions that a dotted name stands for: all of a module's for the module."""
    module = _module_of(target)
    if module is None:
        raise ModuleNotFoundError(f"no source file for {target}")
    names = [*filter(None, target.removeprefix(module).split(".")), *filter(None, rest.split("."))]
    known = _parse(module)
    if not names:  # the module itself is handed on
        return [_Name(module, name) for name in (WHOLE, *known.definitions)]
    first, after = names[0], ".".join(names[1:])
    if first in known.definitions:
        return [_Name(module, first)]
    if first in known.imports:
        return _find(known.imports[first], after)
    if _find_source(f"{module}.{first}") is not None:
        return _find(f"{module}.{first}", after)
    raise ModuleNotFoundError(f"{module} has no {first}")


def _module_of(target: str) -> str | None:
    """The module of a dotted name that counts; None where there is none."""
    if target.split(".")[0] not in FIRST_PARTY or _is_exempt(target):
        return None
    while target and _find_source(target) is None:
        target = target.rpartition(".")[0]
    return target or None


def _is_exempt(target: str) -> bool:
    return any(target == room or target.startswith(f"{room}.") for room in EXEMPT)


@functools.cache
def _parse(module: str) -> _Module:
    found = _find_source(module)
    if found is None:
        raise ModuleNotFoundError(f"no source file for module {module}")
    return _Module(module, found)


@functools.cache
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
