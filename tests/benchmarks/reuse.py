"""Time the quickstart in an empty home and once more: what does reuse save and cost?

    python tests/benchmarks/reuse.py [--set path.to.field=value …]

Both runs are whole processes, server start included, and use the same machine one after the other.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run(home: Path, settings: list[str]) -> tuple[float, dict]:
    """Run the quickstart as a user would; return wall seconds and its result."""
    result = home / "result.json"
    quartet = Path(sys.executable).parent / "quartet"
    started = time.perf_counter()
    subprocess.run(
        [quartet, "run", "quickstart", "--result", result, *settings],
        env=os.environ | {"QUARTET_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - started, json.loads(result.read_text())


def main() -> None:
    """Print a line a stage and one for the whole."""
    with tempfile.TemporaryDirectory() as folder:
        first_seconds, first = run(Path(folder), sys.argv[1:])
        second_seconds, second = run(Path(folder), sys.argv[1:])
    print(f"{'stage':10} {'first, s':>9} {'again, s':>9} {'ratio':>8}")
    for new, again in zip(first["stages"], second["stages"], strict=True):
        ratio = new["seconds"] / again["seconds"]
        print(f"{new['name']:10} {new['seconds']:9.1f} {again['seconds']:9.2f} {ratio:8.0f}")
        assert again["reused"], f"{new['name']} was computed again"
    ratio = first_seconds / second_seconds
    print(f"{'process':10} {first_seconds:9.1f} {second_seconds:9.2f} {ratio:8.1f}")
    print(f"verdict: {'accepted' if first['verdict']['accepted'] else 'rejected'}")


if __name__ == "__main__":
    main()
