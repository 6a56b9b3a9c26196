"""What a server's log says: its end, and what its words about the database mean."""

import re
from pathlib import Path

DATABASE_TROUBLES = (
    (
        r"Can't locate revision identified by",
        "was written by a newer version; install that version again (pip install -c "
        "constraints.txt shows the tested one), or move the file away to begin anew",
    ),
    (
        r"out-of-date database schema",
        "was written by an older version; copy the file, then run `mlflow db upgrade {uri}`",
    ),
    (
        r"duplicate column name|table \S+ already exists|no such (table|column)|alembic\.util\.exc",
        "is half upgraded; put a copy from before the upgrade back, or move the file away to "
        "begin anew (the stage store keeps every result)",
    ),
    (
        r"file is not a database|database disk image is malformed",
        "is damaged; put a copy back, or move the file away to begin anew "
        "(the stage store keeps every result)",
    ),
)
"""What a server's log says about its database, and what that means."""


def explain(name: str, what: str, log: Path) -> str:
    """Say what happened to a server, with the remedy its log points to and the log's end."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    database = log.parent.parent / ("prefect.db" if "Prefect" in name else "mlflow.db")
    remedy = "; mend what it says and start again"
    for pattern, meaning in DATABASE_TROUBLES:
        if re.search(pattern, text):
            remedy = f"; the database {database} " + meaning.format(uri=f"sqlite:///{database}")
            break
    return f"{name}: {what}{remedy}. The end of {log}:\n{tail(log)}"


def tail(log: Path, lines: int = 15) -> str:
    """Last lines of a log, indented."""
    if not log.exists():
        return "    (no log)"
    text = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    return "\n".join(f"    {line}" for line in text[-lines:]) or "    (empty)"
