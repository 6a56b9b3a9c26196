"""The README keeps its promises: its tree is the checkout's, its pictures and commands exist."""

import ast
import re
from pathlib import Path

from typer.testing import CliRunner

from flows.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGES = ("flows", "tasks", "models", "tests")


def tree() -> dict[str, str]:
    """What the README says of each file, by path."""
    block = README.split("## The tree")[1].split("```")[1]
    said, folder = {}, ""
    for line in block.strip().splitlines():
        if line.endswith("/") and not line.startswith(" "):
            folder = line
            continue
        name, _, text = line.strip().partition(" ")
        said[f"{folder if line.startswith(' ') else ''}{name}"] = text.strip()
    return said


def test_readme_tree_has_a_line_for_every_module_and_no_other() -> None:
    modules = {
        path.relative_to(ROOT).as_posix(): path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    said = tree()
    for name, path in modules.items():
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert said.get(name) == docstring.splitlines()[0].rstrip("."), name
    for name in said:
        assert (ROOT / name).is_file(), name


def test_readme_links_and_pictures_exist() -> None:
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", README) if not t.startswith("http")]
    assert targets
    assert all((ROOT / target).is_file() for target in targets)


def test_readme_names_every_preset() -> None:
    listed = CliRunner().invoke(app, ["presets"]).output
    for line in listed.splitlines():
        assert f"`{line.split()[0]}`" in README
