"""The stack of infra/compose.yaml, running."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.stack import Stack, missing_programs


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The whole stack, running; its folder is one that another account may enter."""
    if missing := missing_programs():
        pytest.skip(f"not installed here: {', '.join(missing)}")
    folder = Path(tempfile.mkdtemp(prefix="quartet-stack-"))
    folder.chmod(0o755)
    running = Stack(folder)
    try:
        running.up("worker", "prefect-services")
        yield running
    finally:
        running.close()
        shutil.rmtree(folder, ignore_errors=True)
