"""What Prefect's database holds while runs come and old ones are deleted.

    python -m tests.benchmarks.prefect_database [--runs 200] [--at-once 5] [--keep]

Runs of a tiny pipeline through the worker of `quartet up`; all but the first reuse its stages.
Prefect deletes no run within an hour of its end, so the clock is moved by hand: after each twenty
runs, their ends and all events are set eight days back, with a retention of an hour for runs and of
a week for events. With `--keep` they are left as they are. Prints, after each twenty, rows by
table, the size of the database's files, and how many seconds a page of runs took.
"""

import argparse
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

from tests.flows.conftest import TINY
from tests.flows.operated import Operation, operated, until

HOUR = "3601"
ENVIRONMENT = {
    "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "15",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ORPHAN_CLEANUP_LOOP_SECONDS": "15",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": HOUR,
}
TABLES = ("flow_run", "flow_run_state", "task_run", "task_run_state", "log", "artifact", "events")
ROUND = 20
OLD = "flow_run WHERE end_time < datetime('now', '-2 hours')"
AGE = """
UPDATE {table} SET {column} = strftime('%Y-%m-%d %H:%M:%f000', {column}, '-8 days')
WHERE {column} > datetime('now', '-2 hours')
"""
AGED = {"flow_run": "end_time", "events": "occurred", "event_resources": "occurred"}


def main() -> None:
    """Run, age, and print what is held."""
    parser = argparse.ArgumentParser(description="Prefect's database under many runs.")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="Delete nothing.")
    given = parser.parse_args()
    print("| runs | " + " | ".join(TABLES) + " | MB | a page of 200 runs, s |")
    print("|---:" * (len(TABLES) + 3) + "|", flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        operated(Path(folder), environment=ENVIRONMENT) as operation,
    ):
        operation.wait(operation.start_pipeline(*TINY), "Completed", seconds=900)
        print(_row(operation, 1), flush=True)
        for done in range(ROUND, given.runs + 1, ROUND):
            for _ in range(ROUND // given.at_once):
                runs = [operation.start_pipeline(*TINY) for _ in range(given.at_once)]
                for run in runs:
                    operation.wait(run, "Completed", seconds=900)
            print(_row(operation, done), flush=True)
            if not given.keep:
                _age(operation)
                print(_row(operation, done, ", vacuumed"), flush=True)


def _row(operation: Operation, done: int, words: str = "") -> str:
    files = operation.home.glob("prefect.db*")
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    begin = time.perf_counter()
    operation.post("flow_runs/filter", {"limit": 200, "sort": "EXPECTED_START_TIME_DESC"})
    page = time.perf_counter() - begin
    held = (str(_count(operation, table)) for table in TABLES)
    return f"| {done}{words} | {' | '.join(held)} | {megabytes:.1f} | {page:.2f} |"


def _count(operation: Operation, table: str) -> int:
    with closing(sqlite3.connect(operation.home / "prefect.db", timeout=60)) as database:
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def _age(operation: Operation) -> None:
    """Have all runs be hours old, and wait until Prefect has deleted them and what was theirs."""
    with closing(sqlite3.connect(operation.home / "prefect.db", timeout=60)) as database:
        for table, column in AGED.items():
            database.execute(AGE.format(table=table, column=column))
        database.commit()
    until(lambda: not _count(operation, OLD), 120, "the deletion of all runs")
    time.sleep(40)  # two rounds of the one that deletes what was theirs


if __name__ == "__main__":
    main()
