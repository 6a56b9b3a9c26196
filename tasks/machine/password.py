"""The home folder's password: made by `quartet up`, asked for by everything it serves.

One password opens Prefect, MLflow and `quartet serve`. It lies in the home folder, readable by its
owner alone, and goes to child processes by their environment, never by a command line or a log.
"""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from models.errors import QuartetError

USER = "admin"
"""Name of the only account that both servers have."""


def password_file(root: Path) -> Path:
    """Where a home folder's password lies."""
    return root / "password"


def read_password(root: Path) -> str | None:
    """Return the password of a home folder, or None where it has none.

    Raises:
        QuartetError: The file is not readable, empty, or other accounts can read it.
    """
    path = password_file(root)
    try:
        if path.stat().st_mode & 0o077:
            raise QuartetError(
                f"{path} can be read by other accounts; run `chmod 600 {path}`, or remove it and "
                "`quartet up` makes a new password"
            )
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise QuartetError(
            f"the password in {path} cannot be read ({error}); change the file's owner, or remove "
            "it and `quartet up` makes a new one"
        ) from error
    if not text.isascii() or not text.isprintable() or not 8 <= len(text) <= 200 or ":" in text:
        raise QuartetError(
            f"{path} holds no password, wanted 8 to 200 printable ASCII characters without a "
            "colon; remove it and `quartet up` makes a new one"
        )
    return text


def home_password(root: Path) -> str:
    """Return the password of a home folder, which gets one and is closed to other accounts.

    Raises:
        QuartetError: As `read_password`, or the folder is not writable.
    """
    path = password_file(root)
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        root.chmod(0o700)
        if not path.exists():
            with tempfile.NamedTemporaryFile("w", dir=root, encoding="utf-8") as new:  # mode 0600
                new.write(secrets.token_urlsafe(24) + "\n")
                new.flush()
                with contextlib.suppress(FileExistsError):  # another process was faster
                    os.link(new.name, path)
    except OSError as error:
        raise QuartetError(
            f"no password can be written to {path} ({error}); make the folder writable for its "
            "owner, or choose another with QUARTET_HOME"
        ) from error
    password = read_password(root)
    if password is None:
        raise QuartetError(f"{path} vanished while it was read; start again")
    return password
