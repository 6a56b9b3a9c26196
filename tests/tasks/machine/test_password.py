"""The password of a home folder: made once, kept from other accounts, refused if it is none."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.errors import QuartetError
from tasks.machine.password import home_password, password_file, read_password


def test_home_password_is_made_once_and_closed_to_other_accounts(tmp_path: Path) -> None:
    root = tmp_path / "home"
    root.mkdir(mode=0o755)
    password = home_password(root)
    assert len(password) >= 32  # token_urlsafe(24): 24 bytes in base64
    assert home_password(root) == read_password(root) == password
    assert password_file(root).stat().st_mode & 0o777 == 0o600
    assert root.stat().st_mode & 0o777 == 0o700
    assert os.listdir(root) == ["password"]
    assert home_password(tmp_path / "other") != password


def test_home_password_is_the_same_for_all_that_ask_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: home_password(tmp_path), range(32)))) == 1


def test_read_password_gives_none_where_there_is_none(tmp_path: Path) -> None:
    assert read_password(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "short", "with:colon-in-it", "two\nlines of text", "ÄÖÜäöüßÄÖ"]
)
def test_read_password_refuses_what_is_none_with_the_remedy(tmp_path: Path, text: str) -> None:
    password_file(tmp_path).write_text(text, encoding="utf-8")
    password_file(tmp_path).chmod(0o600)
    with pytest.raises(QuartetError, match="remove it and `quartet up` makes a new one"):
        read_password(tmp_path)


def test_read_password_refuses_a_file_that_other_accounts_can_read(tmp_path: Path) -> None:
    home_password(tmp_path)
    password_file(tmp_path).chmod(0o644)
    with pytest.raises(QuartetError, match="chmod 600"):
        read_password(tmp_path)
