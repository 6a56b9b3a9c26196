"""Fixtures that several parts of the tests share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.ports import free_port

SETTINGS = (
    *("HOME", "TRACKING_URI", "EXPERIMENT", "DEVICE", "THREADS"),
    *("RATERS", "PROCESSES", "SHARDING", "TENSOR_PARALLEL"),
)

# Processes that tests start find them too, from whatever folder, and compile the code once for all.
os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")  # a busy machine fails no test


LONGEST = ("test_quickstart", "test_hosts", "test_operated", "test_compose", "test_crash")
"""Files that take many minutes, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin long files first, so that none of them is left for one worker at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def order(item: pytest.Item) -> int:
        name = item.path.stem
        return LONGEST.index(name) if name in LONGEST else len(LONGEST) + (item.path not in slow)

    items.sort(key=order)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; a test that needs it is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated MLflow database: migrating takes seconds, a copy a tenth of one."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_template: Path) -> Path:
    """An empty home folder of Quartet with a local MLflow database, set in the environment."""
    for name in SETTINGS:
        monkeypatch.delenv(f"QUARTET_{name}", raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copyfile(mlflow_template, folder / "mlflow.db")
    monkeypatch.setenv("QUARTET_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """A Prefect server on loopback with a database of its own; gives its address."""
    from prefect.settings import get_current_settings
    from prefect.testing import utilities

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utilities, "_find_available_port", free_port)  # Prefect's is not held
        with utilities.prefect_test_harness(server_startup_timeout=120):
            yield str(get_current_settings().api.url)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were written, so that a test can look into them."""
    figures: list[Any] = []
    write = FigureCanvasAgg.print_png

    def keep(canvas: Any, *args: Any, **kwargs: Any) -> None:
        figures.append(canvas.figure)
        write(canvas, *args, **kwargs)

    monkeypatch.setattr(FigureCanvasAgg, "print_png", keep)
    return figures
