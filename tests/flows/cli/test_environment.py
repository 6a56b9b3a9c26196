"""What libraries read from the environment is there before they are imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.machine.launch import OPENMP_SPINS

BEGIN = (
    "from flows.cli.environment import prepare_environment\n"
    "from tasks.settings import load_settings\n"
    "prepare_environment(load_settings())\n"
    "import torch\n"
)


@pytest.mark.skipif(sys.platform != "linux", reason="torch comes with GNU OpenMP on Linux")
@pytest.mark.parametrize(("own", "wanted"), [({}, OPENMP_SPINS), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_threads_of_torch_sleep_soon_unless_told_otherwise(
    own: dict[str, str], wanted: str, tmp_path: Path
) -> None:
    shown = {"OMP_DISPLAY_ENV": "verbose", "QUARTET_HOME": str(tmp_path)}
    inherited = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN],
        capture_output=True,
        text=True,
        check=True,
        env=inherited | shown | own,
    )
    assert f"GOMP_SPINCOUNT = '{wanted}'" in done.stderr
