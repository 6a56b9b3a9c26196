"""The digest of a stage's code: what can change a number, and nothing else.

A module is cut into its top-level definitions. Those that the stage's module refers to, directly or
through others, count; each is hashed with the contents of what its names stand for, never with
their modules' names. So a definition can move, a module can be split or merged and imports can be
sorted without effect, while a changed constant, default, callee or import is a change.

Left out are texts for people: docstrings, comments, log lines, arguments of errors, titles and
descriptions of fields; and the rooms that carry or show results but never shape them.
"""

import ast
import functools
import hashlib
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

from tasks.results.texts import WithoutTexts

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

    Raises:
        ModuleNotFoundError: There is no such module, or it imports what does not exist.
    """
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
        tree = ast.parse(source.read_text(encoding="utf-8"))
        for statement in tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                self.imports |= _imported(statement)
            elif names := _defined(statement):
                for defined in names:
                    self.definitions.setdefault(defined, []).append(statement)
            else:
                self._rest.append(statement)
                self.imports |= _imported(statement)

    def definition(self, name: str) -> _Definition:
        if name not in self._cut:
            found = self._rest if name == WHOLE else self.definitions[name]
            self._cut[name] = self._resolve(found, whole=name == WHOLE)
        return self._cut[name]

    def _resolve(self, statements: list[ast.stmt], *, whole: bool) -> _Definition:
        body = ast.Module(body=statements, type_ignores=[])
        local = _imported(body)
        WithoutTexts().visit(body)
        definition = _Definition("\n".join(map(_written, body.body)))
        for dotted in _loaded(body):
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


def _written(part: object) -> str:
    """A part of a syntax tree as text, the same in every Python: `ast.dump` is not.

    Left out are empty fields, of which newer Pythons have more, and empty texts that Python 3.12
    finds between the parts of a format.
    """
    if isinstance(part, list):
        return f"[{', '.join(map(_written, part))}]"
    if isinstance(part, ast.JoinedStr):
        part = ast.JoinedStr([one for one in part.values if getattr(one, "value", None) != ""])
    if not isinstance(part, ast.AST):
        return repr(part)
    fields = [(name, value) for name, value in ast.iter_fields(part) if value not in (None, [])]
    if isinstance(part, ast.Constant):
        fields = [("value", part.value)]
    text = ", ".join(f"{name}={_written(value)}" for name, value in fields)
    return f"{type(part).__name__}({text})"


def _loaded(tree: ast.AST) -> set[str]:
    """Names and dotted names that are read: `np.exp`, `encode`."""
    dotted: set[str] = set()
    inner: set[ast.AST] = set()
    for node in ast.walk(tree):  # outer attributes come before inner ones
        if isinstance(node, ast.Attribute) and node not in inner:
            chain: ast.AST = node
            while isinstance(chain, ast.Attribute):
                inner.add(chain)
                chain = chain.value
            if isinstance(chain, ast.Name):
                inner.add(chain)
                dotted.add(ast.unparse(node))
        elif isinstance(node, ast.Name) and node not in inner:
            dotted.add(node.id)
    return dotted


def _defined(statement: ast.stmt) -> list[str]:
    """Names that a top-level statement defines without doing anything else."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    flat = [one for t in targets for one in (t.elts if isinstance(t, ast.Tuple) else [t])]
    return [one.id for one in flat if isinstance(one, ast.Name)]


def _imported(tree: ast.AST) -> dict[str, str]:
    """What the imports below a node bind: local name to dotted target.

    Raises:
        ValueError: One name stands for two things.
    """
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
        names: dict[str, str] = {}
        if isinstance(node, ast.ImportFrom):
            names = {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            tops = ((alias, alias.name.split(".")[0]) for alias in node.names)
            names = {a.asname or top: a.name if a.asname else top for a, top in tops}
        for name, target in names.items():
            if bound.setdefault(name, target) != target:
                raise ValueError(
                    f"{bound[name]} and {target} are imported under the one name {name} in one "
                    "definition; give them different names"
                )
    return bound


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
