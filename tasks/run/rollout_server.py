"""The server that samples PPO's rollouts, as the settings name it.

Its key is read from the environment and handed on in a private file, so that it also reaches a
training in processes of its own, and stands in no log, specification or message.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import ParameterError
from models.rollouts.config import RolloutServer
from tasks.settings import Settings, load_settings

KEY_VARIABLE = "QUARTET_ROLLOUT_KEY"


@contextmanager
def rollout_server(wanted: bool) -> Iterator[RolloutServer | None]:
    """Give the server of the settings where it is wanted; weights and key lie there only so long.

    Raises:
        ParameterError: There is none, its key is none, or the folder for weights cannot be made.
    """
    if not wanted:
        yield None
        return
    settings = load_settings()
    want_rollout_server(settings)
    with _private_folder(settings) as folder:
        yield RolloutServer(
            url=settings.rollout_server,
            key_file=_write_key(folder),
            requests=settings.rollout_requests,
            weights=settings.rollout_weights,
            folder=folder,
        )


def want_rollout_server(settings: Settings) -> None:
    """Make sure that a server is named.

    Raises:
        ParameterError: It is not.
    """
    if not settings.rollout_server:
        raise ParameterError(
            "ppo.rollout_engine is server, but QUARTET_ROLLOUT_SERVER names none where the flow "
            "runs; set it to the server's address, or ppo.rollout_engine to in_process"
        )


@contextmanager
def _private_folder(settings: Settings) -> Iterator[Path]:
    """A folder of this process below the one that the server reads."""
    shared = settings.rollouts
    try:
        shared.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(prefix="run-", dir=shared, ignore_cleanup_errors=True)
    except OSError as error:
        raise ParameterError(
            f"weights for the rollout server cannot be written to {shared} ({error}); name another "
            "folder with QUARTET_ROLLOUT_FOLDER"
        ) from error
    with made as name:
        yield Path(name)


def _write_key(folder: Path) -> Path | None:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        return None
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ParameterError(
            f"environment variable {KEY_VARIABLE} holds no key: it has spaces or characters that "
            "no key has; set it to the key alone"
        )
    path = folder / "key"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key)
    return path
