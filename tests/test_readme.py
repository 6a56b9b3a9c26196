"""The READMEs keep their promises: their links, pictures, commands and paths exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_group
from typer.testing import CliRunner

from flows.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (
    "README.md",
    "flows/README.md",
    "tasks/README.md",
    "models/README.md",
    "infra/README.md",
    "tests/benchmarks/README.md",
)
ENDINGS = ("/", ".py", ".md", ".yaml", ".toml", ".png", ".txt")
OF_A_RUN = {
    "report.md",
    "plots/",
    "comparisons/",
    "ema/",
    "logs/",
    "mlflow-artifacts/",
    "model/",
    "model_adapter/",
    "ranks/",
    "reports/prepare/",
    "team/",
}
"""What looks like a path of the repository and is one of a home folder or a published stage."""


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """The fragments of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", without_code(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: str) -> Iterator[tuple[Path, str]]:
    """File and fragment of each link and picture that is not on the web."""
    for target in re.findall(r"\]\(([^)]+)\)", without_code(read(page))):
        if not target.startswith("http"):
            path, _, fragment = target.partition("#")
            yield (ROOT / page).parent / path if path else ROOT / page, fragment


def paths(page: str) -> set[str]:
    """What looks like a folder or file of the repository, in backticks or in a command."""
    text = read(page)
    quoted = re.findall(r"`([\w-][\w.-]*(?:/[\w.-]+)*/?)`", without_code(text))
    typed = re.findall(r"(?:flows|tasks|models|tests|infra)/[\w./-]+\.(?:py|md|yaml)", text)
    return {name for name in quoted if name.endswith(ENDINGS)} - OF_A_RUN | set(typed)


@pytest.mark.parametrize("page", PAGES)
def test_readme_links_and_pictures_exist(page: str) -> None:
    found = list(links(page))
    assert found
    for path, fragment in found:
        assert path.is_file(), path
        assert not fragment or fragment in anchors(path.read_text(encoding="utf-8")), fragment


@pytest.mark.parametrize("page", PAGES)
def test_readme_paths_exist(page: str) -> None:
    """In the repository, or beside the page."""
    found = paths(page)
    assert found
    folders = (ROOT, (ROOT / page).parent)
    assert not [name for name in found if not any((at / name).exists() for at in folders)]


def test_readme_is_short_and_shows_both_commands_on_its_first_screen() -> None:
    lines = README.splitlines()
    assert len(lines) <= 200
    for command in ("make demo", "make test"):
        assert any(line.startswith(command) for line in lines[:40])


def test_readmes_show_every_picture() -> None:
    shown = {path.resolve() for page in PAGES for path, _ in links(page)}
    assert set((ROOT / ".github" / "images").iterdir()) <= shown


def test_readme_names_every_preset() -> None:
    listed = CliRunner().invoke(app, ["presets"]).output
    for line in listed.splitlines():
        assert f"`{line.split()[0]}`" in README


def test_readmes_name_every_command() -> None:
    text = "".join(map(read, ("README.md", "flows/README.md", "tasks/README.md")))
    for name in get_group(app).commands:
        assert re.search(rf"\bquartet {name}\b", text), name


@pytest.mark.parametrize("package", ["flows", "tasks", "models"])
def test_readmes_name_every_room(package: str) -> None:
    rooms = {f"{path.parent.name}/" for path in (ROOT / package).glob("*/__init__.py")}
    assert rooms <= paths(f"{package}/README.md")
