"""A wheel is enough: what people install works in an empty folder, without the checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.flows.operated import operated

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that is built from it."""
    copy, out = tmp_path_factory.mktemp("source") / "quartet", tmp_path_factory.mktemp("built")
    kept = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=kept)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(out), str(copy)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The wheel beside the libraries of this environment, in place of the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = built.glob("*.whl")
    words = ["install", "--quiet", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        yield folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A current folder with somebody else's packages of the same names."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("flows", "tasks", "models"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.mark.slow
def test_archives_hold_what_runs_and_no_tests(built: Path) -> None:
    (sdist,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE"} <= inside
    assert not [name for name in inside if name.startswith("tests/")]
    names = set(zipfile.ZipFile(wheel).namelist())
    for pattern in ("*/*.py", "*/*.yaml", "*/*.j2"):
        for package in ("flows", "tasks", "models"):
            here = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob(pattern)}
            assert here <= names
    assert not [name for name in names if name.split("/")[0] in ("tests", "infra")]


@pytest.fixture
def said(elsewhere: Path, tmp_path: Path) -> Callable[..., str]:
    """Run a command in the folder of somebody else's packages; gives what it printed."""

    def run(*command: str) -> str:
        environment = {**os.environ, "QUARTET_HOME": str(tmp_path)}
        done = subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert not (elsewhere / ".quartet").exists()
        return done.stdout

    return run


@pytest.mark.slow
def test_commands_of_an_installed_wheel_work(installed: Path, said: Callable[..., str]) -> None:
    program = str(installed / "bin" / "quartet")
    code = said(sys.executable, "-P", "-c", "import flows; print(flows.__file__)")
    assert code.startswith(str(installed))
    assert "quickstart" in said(program, "presets")
    assert "pretrain" in said(program, "plan", "quickstart")


@pytest.mark.campaign
def test_a_pipeline_runs_from_an_installed_wheel(
    installed: Path, said: Callable[..., str], tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    program = str(installed / "bin" / "quartet")
    with operated(tmp_path, program=[program]) as operation:
        said(program, "doctor", "--quick")
        brought = len(list((ROOT / "flows" / "operation" / "automations").glob("*.yaml")))
        assert f"Automations: {brought};" in operation.log.read_text()
        operation.wait(operation.start_pipeline(*tiny), "Completed")
        assert "prepare" in said(program, "lineage", "quickstart-sft")
