"""A soak of `quartet up`: runs, cancels and retries for some time, and what its processes hold.

    python -m tests.benchmarks.soak SECONDS

Each minute it prints file descriptors, threads and resident memory (MB) of the servers and the
worker; at the end the states of all runs, and which processes were left.
"""

import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tasks.machine.guardian import descendants
from tests.flows.conftest import TINY
from tests.flows.operated import Operation, operated, until

KINDS = {"prefect worker": "worker", "prefect.server": "Prefect", "prefect server": "Prefect"}
KINDS |= {"mlflow": "MLflow", "guardian": "guardians", "prefect.engine": "runs"}


def main(seconds: float) -> None:
    """Soak, and print what was seen."""
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder, operated(Path(folder)) as operation:
        below = set(descendants(operation.process.pid))
        operation.wait(operation.start_pipeline(*TINY), "Completed")
        begin = looked = time.monotonic()
        print(_held(operation), flush=True)
        count = 0
        while time.monotonic() - begin < seconds:
            count += 1
            _run(operation, count, chance)
            if time.monotonic() - looked > 60:
                looked = time.monotonic()
                print(f"{looked - begin:5.0f} s  {_held(operation)}", flush=True)
        with operation.client() as client:
            states = Counter(run.state_name for run in client.read_flow_runs(limit=200))
        (experiment,) = operation.mlflow.search_experiments(filter_string="name = 'quartet'")
        active = operation.mlflow.search_runs(
            [experiment.experiment_id], filter_string="attributes.status = 'RUNNING'"
        )
        print(f"{count} runs: {dict(states)}; running in MLflow: {len(active)}")
        print(f"at the end  {_held(operation)}")
        below |= set(descendants(operation.process.pid))
    left = [pid for pid in below if Path(f"/proc/{pid}").exists()]
    print(f"processes left: {left or 'none'}")


def _run(operation: Operation, count: int, chance: random.Random) -> None:
    """A run that completes, is cancelled, or is cancelled and tried again, in turn."""
    run = operation.start_pipeline(*TINY, f"ppo.kl_coef={0.1 + count / 1000}", "ppo.iterations=40")
    if count % 3:
        operation.wait(run, "Running")
        time.sleep(chance.uniform(4, 16))
        operation.cancel(run)
        operation.wait(run, "Cancelled", "Completed")
        until(lambda: operation.flow_process(run) is None, 60, "the end of the process")
    if count % 3 == 2:
        time.sleep(10)  # the worker reports a death twice, and the second overrules a retry
        operation.retry(run)
    if count % 3 != 1:
        operation.wait(run, "Completed")


def _held(operation: Operation) -> dict[str, tuple[int, int, int]]:
    """File descriptors, threads and memory by kind of process."""
    held: dict[str, tuple[int, int, int]] = {}
    for pid in descendants(operation.process.pid):
        place = Path(f"/proc/{pid}")
        try:
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            lines = (place / "status").read_text().splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            files = len(os.listdir(place / "fd"))
        except OSError:  # it has just ended
            continue
        kind = next((name for word, name in KINDS.items() if word in words), "others")
        now = (files, int(status["Threads"]), int(status.get("VmRSS", "0").split()[0]) // 1024)
        old = held.get(kind, (0, 0, 0))
        held[kind] = (old[0] + now[0], old[1] + now[1], old[2] + now[2])
    return held


if __name__ == "__main__":
    main(float(sys.argv[1]))
