"""How long commands take in a home with years of history, beside one with a few pipelines.

    python tests/benchmarks/history.py HOME [--times 1 100 1000] [--postgres URL]

HOME holds at least two finished pipelines, whose rows of MLflow's SQLite database, and manifests,
are copied under new ids and digests; weights are not. Points of curves are left out: no command
reads them but for the runs that it shows. `sync` has been run before, as after years, and asks
about what came since; all copies came just now, so that is set by hand. Prints seconds by command
and by size of the history; the commands run one after the other, each in a process of its own, the
median of three. With an empty PostgreSQL database all is copied there, and an MLflow server that
uses it answers the commands by HTTP.
"""

import argparse
import contextlib
import csv
import io
import os
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from tasks.settings import Settings
from tasks.tracking.client import Tracker
from tasks.tracking.sync import Seen
from tests.flows.operated import until
from tests.ports import free_ports

NAME = re.compile(r"\b(?:[0-9a-f]{32}|[0-9a-f]{64})\b")
"""An id of a run or a digest."""
OF_RUNS = ("runs", "tags", "params", "latest_metrics")
OF_VERSIONS = ("model_versions", "model_version_tags")
SMALL = 2**17
"""Bytes; larger files of a store are weights or samples."""


class Copy:
    """New names for one copy of everything."""

    def __init__(self, number: int) -> None:
        """Number a copy from 1; 0 is the original."""
        self.number = number

    def text(self, text: Any) -> Any:
        """Rename every id of a run and every digest in a text."""
        if not isinstance(text, str):
            return text
        return NAME.sub(self._renamed, text)

    def _renamed(self, found: re.Match[str]) -> str:
        """Another name of the same length."""
        return sha256(f"{found[0]}{self.number}".encode()).hexdigest()[: len(found[0])]


def multiply_database(path: Path, copies: Sequence[Copy]) -> None:
    """Add copies of all runs and of all versions of models."""
    with sqlite3.connect(path) as database:
        for table in (*OF_RUNS, *OF_VERSIONS):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            rows = list(database.execute(f"SELECT * FROM {table}"))
            insert = f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})"
            newest: dict[str, int] = {}
            if table in OF_VERSIONS:
                for row in rows:
                    known = dict(zip(columns, row, strict=True))
                    newest[known["name"]] = max(newest.get(known["name"], 0), known["version"])

            def renamed(
                copy: Copy, rows: list[Any] = rows, columns: list[str] = columns,
                newest: dict[str, int] = newest,
            ) -> Iterator[list[Any]]:  # fmt: skip
                for row in rows:
                    given = dict(zip(columns, row, strict=True))
                    made = {key: copy.text(value) for key, value in given.items()}
                    if newest:
                        made["version"] += copy.number * newest[given["name"]]
                    elif "start_time" in made:  # older, and with a name of its own
                        made["name"] = f"{made['name']} {copy.number}"
                        for when in ("start_time", "end_time"):
                            made[when] = made[when] and made[when] - copy.number * 3_600_000
                    elif made.get("key") == "mlflow.runName":
                        made["value"] = f"{made['value']} {copy.number}"
                    yield list(made.values())

            for copy in copies:
                database.executemany(insert, renamed(copy))


def multiply_store(store: Path, copies: Sequence[Copy]) -> None:
    """Add copies of all published folders, without what is large."""
    folders = [path.parent for path in store.glob("*/*/MANIFEST.json")]
    for copy in copies:
        for folder in folders:
            target = folder.with_name(copy.text(folder.name))
            target.mkdir()
            for file in folder.iterdir():
                if file.is_file() and file.stat().st_size < SMALL:
                    text = copy.text(file.read_text(encoding="utf-8"))
                    (target / file.name).write_text(text, encoding="utf-8")
                    os.utime(target / file.name, (file.stat().st_atime, file.stat().st_mtime))


def mark_seen(home: Path) -> None:
    """Have `sync` know all that is here: everything came before tomorrow."""
    settings = Settings(home=home)
    for name in ("synced.json", "settled.json"):
        Seen(home / name, Tracker(settings)).write(time.time() + 2 * Seen.MARGIN)


def copy_database(file: Path, url: str) -> None:
    """Copy MLflow's SQLite database into one of PostgreSQL that it has prepared."""
    import psycopg2

    SqlAlchemyStore(url, "unused")  # makes the tables
    with sqlite3.connect(file) as source, psycopg2.connect(url) as target, target.cursor() as to:
        to.execute("SET session_replication_role = replica")  # in any order of the tables
        to.execute(
            "SELECT table_name, column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
        )
        kinds: dict[str, dict[str, str]] = {}
        for table, column, kind in to.fetchall():
            kinds.setdefault(table, {})[column] = kind
        for table in sorted(kinds.keys() - {"alembic_version"}):
            columns = [row[1] for row in source.execute(f"PRAGMA table_info({table})")]
            flags = [kinds[table][column] == "boolean" for column in columns]
            to.execute(f"TRUNCATE {table} CASCADE")
            names = ", ".join(f'"{column}"' for column in columns)
            rows = source.execute(f"SELECT {names} FROM {table}")
            while some := rows.fetchmany(50_000):
                text = io.StringIO()
                csv.writer(text).writerows(
                    [
                        "\\N" if cell is None else bool(cell) if flag else cell
                        for cell, flag in zip(row, flags, strict=True)
                    ]
                    for row in some
                )
                text.seek(0)
                to.copy_expert(f"COPY {table} ({names}) FROM STDIN CSV NULL '\\N'", text)


@contextmanager
def served(url: str) -> Iterator[str]:
    """An MLflow server on a database; gives its address."""
    (port,) = free_ports(1)
    words = ["server", "--backend-store-uri", url, "--port", str(port), "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-m", "mlflow", *words])
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(f"{address}/health"), 120, "MLflow's server")
        yield address
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False


def seconds(home: Path, words: Sequence[str], rounds: int = 3) -> float:
    """Median seconds of a command, whether it succeeds or is refused."""
    quartet = Path(sys.executable).with_name("quartet")
    taken = []
    for _ in range(rounds):
        mark_seen(home)
        start = time.perf_counter()
        done = subprocess.run(
            [str(quartet), *words],
            env={**os.environ, "QUARTET_HOME": str(home)}, capture_output=True, text=True,
        )  # fmt: skip
        taken.append(time.perf_counter() - start)
        assert done.returncode in (0, 1, 2), done.stdout + done.stderr
    return statistics.median(taken)


def commands(home: Path) -> dict[str, list[str]]:
    """What is timed: right and wrong names."""
    with sqlite3.connect(home / "mlflow.db") as database:
        names = [
            name
            for (name,) in database.execute(
                "SELECT r.name FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid "
                "WHERE t.key = 'quartet.kind' AND t.value = 'pipeline' ORDER BY start_time DESC "
                "LIMIT 2"
            )
        ]
        (model,) = database.execute("SELECT name FROM registered_models LIMIT 1").fetchone()
    return {
        "lineage of a model": ["lineage", model],
        "lineage of a wrong name": ["lineage", "ppo/0123456789"],
        "compare two": ["compare", *names],
        "compare one with itself": ["compare", names[0], names[0]],
        "compare with a wrong name": ["compare", names[0], "no such run"],
        "status": ["status"],
        "sync": ["sync"],
        "gc --dry-run": ["gc", "--dry-run"],
        "promote without an accepted version": ["promote", f"{model.partition('-')[0]}-policy"],
        "promote a wrong name": ["promote", "no-such-model"],
    }


def main() -> None:
    """Multiply a home, time the commands and print the table."""
    parser = argparse.ArgumentParser(description="Commands in a home with a long history.")
    parser.add_argument("home", type=Path)
    parser.add_argument(
        "--times", type=int, nargs="*", default=[1, 100, 1000], help="HOME's pipelines so often."
    )
    parser.add_argument("--stored", type=int, default=3000, help="Most copies in the store.")
    parser.add_argument("--postgres", default="", help="Address of an empty database.")
    parser.add_argument("--only", default="", help="Commands whose name holds this.")
    given = parser.parse_args()
    table: dict[str, list[str]] = {}
    for count in given.times:
        with tempfile.TemporaryDirectory() as scratch:
            home = Path(scratch) / "home"
            shutil.copytree(given.home, home)
            copies = [Copy(number) for number in range(1, count)]
            multiply_database(home / "mlflow.db", copies)
            multiply_store(home / "store", copies[: given.stored])
            with contextlib.ExitStack() as stack:
                if given.postgres:
                    copy_database(home / "mlflow.db", given.postgres)
                    os.environ["QUARTET_TRACKING_URI"] = stack.enter_context(served(given.postgres))
                for name, words in commands(home).items():
                    if given.only in name:
                        table.setdefault(name, []).append(f"{seconds(home, words):.1f}")
                        print(count, name, table[name][-1], file=sys.stderr, flush=True)
    print(f"| times its pipelines | {' | '.join(map(str, given.times))} |")
    print(f"|---|{'---:|' * len(given.times)}")
    for name, cells in table.items():
        print(f"| `{name}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
