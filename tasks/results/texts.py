"""What code says to people: left out of a stage's digest, so that words can change freely."""

import ast
import functools
from pathlib import Path

from models import errors

LOG_LEVELS = ("debug", "info", "warning", "error", "exception")
FIELD_TEXTS = ("title", "description", "examples", "field_title_generator")


class WithoutTexts(ast.NodeTransformer):
    """Takes out of a tree what is only read by people, and imports, which are resolved apart."""

    def visit(self, node: ast.AST) -> ast.AST:
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, name, [one for one in value if not _is_text(one)])
        visited: ast.AST = super().visit(node)
        return visited

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Leave out local texts that only errors and log lines read."""
        self.generic_visit(node)
        names = (one for one in ast.walk(node) if isinstance(one, ast.Name))
        read = {one.id for one in names if isinstance(one.ctx, ast.Load)}
        for inner in ast.walk(node):
            for name, value in ast.iter_fields(inner):
                if isinstance(value, list):
                    setattr(inner, name, [v for v in value if not _is_unread_text(v, read)])
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """Keep the class of an error that the code may catch; those of Quartet end the run."""
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(exc=None if _is_error(raised) else raised, cause=None)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return self.generic_visit(ast.Assert(test=node.test, msg=None))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Drop what an error says, and what a form shows of a field."""
        if _last_name(node.func).endswith("Error"):
            func = ast.Name("QuartetError", ast.Load()) if _is_error(node.func) else node.func
            node = ast.Call(func=func, args=[], keywords=[])
        elif _last_name(node.func).startswith("refuse_"):  # raises, in these words, or does nothing
            node.args = [
                one for one in node.args if not isinstance(one, ast.Constant | ast.JoinedStr)
            ]
        elif _last_name(node.func) in ("Field", "ConfigDict"):
            node.keywords = [one for one in node.keywords if one.arg not in FIELD_TEXTS]
            if _last_name(node.func) == "Field" and len(node.args) == 1 and not node.keywords:
                return self.visit(node.args[0])  # a default with a title is the default
        return self.generic_visit(node)


def _is_text(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return True
    if isinstance(statement, ast.Assign):
        return isinstance(statement.value, ast.Call) and _last_name(
            statement.value.func
        ) in ("getLogger", "run_logger")  # fmt: skip
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        owner = ast.unparse(value.func.value)
        return (value.func.attr in LOG_LEVELS and "logger" in owner) or (
            ast.unparse(value.func) == "warnings.warn"
        )
    return isinstance(value, ast.Constant)


def _is_unread_text(node: ast.AST, read: set[str]) -> bool:
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False
    value = node.value
    texts = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
    spoken = all(
        isinstance(one, ast.JoinedStr) or (isinstance(one, ast.Constant) and type(one.value) is str)
        for one in texts
    )
    return spoken and node.targets[0].id not in read


def _is_error(node: ast.AST | None) -> bool:
    return node is not None and _last_name(node) in _quartet_errors()


@functools.cache
def _quartet_errors() -> frozenset[str]:
    tree = ast.parse(Path(errors.__file__).read_text(encoding="utf-8"))
    return frozenset(one.name for one in tree.body if isinstance(one, ast.ClassDef))


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
