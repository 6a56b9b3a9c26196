"""Files of a test's own, read and refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError
from tasks.data.files import open_rows

Rows = list[dict[str, Any]]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[Rows, str]]:
    """Write a file and read its rows, with the notes as one text."""

    def read(name: str, data: str | bytes, **options: Any) -> tuple[Rows, str]:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        rows = open_rows(path, **options)
        return list(rows), "; ".join(rows.notes)

    return read


@pytest.fixture
def refused(read: Callable[..., tuple[Rows, str]]) -> Callable[..., str]:
    """Write a file that is refused; what is said about it."""

    def refused(name: str, data: str | bytes, **options: Any) -> str:
        with pytest.raises(DataError) as caught:
            read(name, data, **options)
        return str(caught.value)

    return refused
