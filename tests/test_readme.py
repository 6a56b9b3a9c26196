"""The README keeps its promises: its pictures and commands exist."""

import re
from pathlib import Path

from typer.testing import CliRunner

from flows.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_links_and_pictures_exist() -> None:
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", README) if not t.startswith("http")]
    assert targets
    assert all((ROOT / target).is_file() for target in targets)


def test_readme_names_every_preset() -> None:
    listed = CliRunner().invoke(app, ["presets"]).output
    for line in listed.splitlines():
        assert f"`{line.split()[0]}`" in README
