"""The local database appears whole, whatever happened to the process that began to make it."""

from pathlib import Path

import pytest

from tasks.tracking.database import create_database


def test_database_that_a_kill_cut_off_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"

    def killed(draft: Path) -> None:
        draft.write_text("half of the tables")
        (tmp_path / f"{draft.name}-journal").write_text("of half of the tables")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        create_database(path, killed)
    assert not path.exists()

    def make(draft: Path) -> None:
        assert not list(tmp_path.glob(f"{draft.name}*"))
        draft.write_text("all tables")

    create_database(path, make)
    assert path.read_text() == "all tables"
    create_database(path, killed)  # it is there: nothing to make
    assert path.read_text() == "all tables"


def test_folder_in_place_of_the_database_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(IsADirectoryError, match=r"mlflow\.db"):
        create_database(tmp_path / "mlflow.db", lambda draft: None)
