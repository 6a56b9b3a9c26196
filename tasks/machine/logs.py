"""What the logs of servers say when one does not start, and what an error says of a database."""

import os
import re
import shutil
from pathlib import Path

from models.display import hide_passwords
from tasks.machine.postgres import MLFLOW_DATABASE, is_postgres

DATABASE_TROUBLES = (
    (
        r"Can't locate revision identified by",
        "was written by a newer version; install that version again (pip install -c "
        "constraints.txt shows the tested one), or move it away to start with an empty one",
    ),
    (
        r"out-of-date database schema",
        "was written by an older version; make a copy, then run `mlflow db upgrade {uri}`",
    ),
    (
        r"duplicate column name|table \S+ already exists|no such (table|column)|alembic\.util\.exc",
        "is half upgraded; put a copy from before the upgrade back, or move it away to "
        "start with an empty one (the stage store keeps every result)",
    ),
    (
        r"file is not a database|malformed|Error binding parameter|invalid literal",
        "is damaged; put a copy back, or move it away to start with an empty one "
        "(the stage store keeps every result)",
    ),
    (
        r"disk is full|No space left|disk I/O error|Disk quota",
        "cannot grow, for its disk is full or fails; free some space and start again",
    ),
    (
        r"readonly database|unable to open database|Permission denied|Read-only file system",
        "cannot be written; make it and its folder writable for this account and start again",
    ),
    (
        r"database is locked",
        "is locked by another process; end that one, or wait for it, and start again",
    ),
)
"""What a server's log or an error says about a database, and what that means."""


LITTLE_BYTES = 2**20
"""Free space with which no server can start."""


def explain(name: str, what: str, log: Path) -> str:
    """Say what happened to a server, with the remedy its log points to and the log's end."""
    cure = remedy(name, log) or "fix what it says and start again"
    return f"{name}: {what}; {cure}. The end of {log}:\n{tail(log)}"


def remedy(name: str, log: Path) -> str:
    """What is wrong with a server's database, and what helps; empty if its log does not say."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    database = log.parent.parent / ("prefect.db" if "Prefect" in name else "mlflow.db")
    if "MLflow" in name and is_postgres(os.environ.get(MLFLOW_DATABASE, "")):
        return _explained(text, f"of {MLFLOW_DATABASE}", f"${MLFLOW_DATABASE}")
    free = shutil.disk_usage(log.parent).free if log.parent.exists() else LITTLE_BYTES
    if free < LITTLE_BYTES:  # a full disk takes no log either
        full = f"the disk of {database.parent} is full, with {free / 2**20:.1f} MiB free"
        return f"{full}; free some space and start again"
    return explain_database(text, database)


def explain_database(text: str, database: Path) -> str:
    """What an error says about an SQLite file, and what helps; empty if it says nothing known."""
    return _explained(text, str(database), f"sqlite:///{database}")


def _explained(text: str, database: str, uri: str) -> str:
    for pattern, meaning in DATABASE_TROUBLES:
        if re.search(pattern, text):
            return f"the database {database} " + meaning.format(uri=uri)
    return ""


def tail(log: Path, lines: int = 15) -> str:
    """Last lines of a log, indented, without the passwords of addresses."""
    if not log.exists():
        return "    (no log)"
    text = hide_passwords(log.read_text(encoding="utf-8", errors="replace").rstrip())
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (empty)"
