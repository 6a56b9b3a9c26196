"""What a piece of a syntax tree says: its text, and the names that it binds and reads."""

import ast


def written(part: object) -> str:
    """A part of a syntax tree as text, the same in every Python: `ast.dump` is not.

    Left out are empty fields, of which newer Pythons have more, and empty texts that Python 3.12
    finds between the parts of a format.
    """
    if isinstance(part, list):
        return f"[{', '.join(map(written, part))}]"
    if isinstance(part, ast.JoinedStr):
        part = ast.JoinedStr([one for one in part.values if getattr(one, "value", None) != ""])
    if not isinstance(part, ast.AST):
        return repr(part)
    fields = [(name, value) for name, value in ast.iter_fields(part) if value not in (None, [])]
    if isinstance(part, ast.Constant):
        fields = [("value", part.value)]
    text = ", ".join(f"{name}={written(value)}" for name, value in fields)
    return f"{type(part).__name__}({text})"


def loaded_names(tree: ast.AST) -> set[str]:
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


def defined_names(statement: ast.stmt) -> list[str]:
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


def imported_names(tree: ast.AST) -> dict[str, str]:
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
