"""One process of a team that was started to learn together: what torchrun runs on each rank.

    torchrun … -m models.distributed.worker FOLDER/spec.json

The spec names a function and its arguments, which every rank calls alike. The first rank appends
to `log.jsonl` in the same folder, a JSON object a line: steps with their metrics, log lines, and
last what the function returned. A rank that fails leaves `error-<pid>.json`. All else that a rank
says goes to its standard error.
"""

import json
import logging
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import distributed

from models.distributed.records import find, from_plain, full_name, to_plain
from models.distributed.team import current_team, joined_team
from models.heap import keep_memory
from models.runtime import ignore

LOG = "log.jsonl"
STOPPED = 128 + signal.SIGTERM
"""Status of a rank that was told to stop."""

LOGGED = ("models", "tasks")
"""Loggers whose lines are passed on; others speak on the rank's standard error."""


class Journal(logging.Handler):
    """The file that the stage follows; ranks other than the first have none."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("ab", buffering=0)
        self._writing = threading.Lock()

    def write(self, **entry: Any) -> None:
        """Append an entry, at once and whole."""
        line = json.dumps(entry).encode() + b"\n"
        with self._writing:
            while line:
                line = line[self._file.write(line) or 0 :]

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Take a step's metrics."""
        self.write(step=step, metrics=dict(metrics))

    def emit(self, record: logging.LogRecord) -> None:
        """Take a log line."""
        self.write(logger=record.name, level=record.levelno, text=self.format(record))


def main(path: Path) -> None:
    """Call what the spec names, as a member of the team; end with status 1 if it raises."""
    spec = json.loads(path.read_text(encoding="utf-8"))
    signal.signal(signal.SIGTERM, _leave)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    torch.set_num_threads(spec["threads"])
    keep_memory()
    if spec["device"] != "cpu":
        torch.cuda.set_device(distributed.get_node_local_rank())
    try:
        with joined_team(
            spec["device"],
            timeout=timedelta(seconds=spec["timeout_seconds"]),
            sharding=spec["sharding"],
            tensor_parallel=spec["tensor_parallel"],
        ):
            _work(spec, path.parent)
    except Exception as error:  # also of joining itself
        _fail(error, path.parent)


def _work(spec: dict[str, Any], folder: Path) -> None:
    team = current_team()
    journal = Journal(folder / LOG) if team.leads else None
    if journal is not None:
        for name in LOGGED:
            logging.getLogger(name).addHandler(journal)
    log = journal.log if journal is not None else ignore
    try:
        found = find(spec["function"])(**from_plain(spec["arguments"], log))
        peak = max(team.gather(_peak_memory(spec["device"])))
        team.wait()  # until all have come to the end
    except (SystemExit, KeyboardInterrupt):  # told to stop, as all others are
        sys.stderr.flush()
        os._exit(STOPPED)
    except Exception as error:
        _fail(error, folder)
    if journal is not None:
        journal.write(result=to_plain(found), peak_bytes=peak)


def _fail(error: Exception, folder: Path) -> None:
    """Leave the error for the stage and end, without a farewell to ranks that may hang."""
    traceback.print_exc()
    rank = distributed.get_rank() if distributed.is_initialized() else None  # it could not join
    plain = all(isinstance(one, str | int | float) for one in error.args)
    file = getattr(error, "filename", None)
    told = {
        "rank": rank,
        "time": time.time(),
        "kind": full_name(type(error)),
        "arguments": [*error.args, *([str(file)] if file else [])] if plain else [str(error)],
        "text": str(error),
        "trace": traceback.format_exc(),
    }
    (folder / f"error-{os.getpid()}.json").write_text(json.dumps(told), encoding="utf-8")
    sys.stderr.flush()
    os._exit(1)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Like every command of ours: raise where the training can save."""
    raise SystemExit(STOPPED)


def _peak_memory(device: str) -> int:
    """The most bytes that this rank has held: on its GPU if it has one, else in RAM."""
    if device != "cpu":
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main(Path(sys.argv[1]))
