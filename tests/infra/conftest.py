"""The stack of infra/compose.yaml, for the tests that need it running."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.stack import Stack, missing_programs


@contextlib.contextmanager
def _running(*services: str) -> Iterator[Stack]:
    """Services with what they depend on; their folder is one that another account may enter."""
    if missing := missing_programs():
        pytest.skip(f"not installed here: {', '.join(missing)}")
    folder = Path(tempfile.mkdtemp(prefix="quartet-stack-"))
    folder.chmod(0o755)
    stack = Stack(folder)
    try:
        stack.up(*services)
        yield stack
    finally:
        stack.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """All of it."""
    with _running("worker", "prefect-services") as running:
        yield running


@pytest.fixture(scope="module")
def databases() -> Iterator[Stack]:
    """PostgreSQL alone."""
    with _running("postgres") as running:
        yield running
