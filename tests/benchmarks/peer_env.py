"""The peer's environment: TRL 1.12, the last release with a PPOTrainer, apart from the project's.

Made once and kept; used again as long as its versions are the wanted ones.
"""

import json
import subprocess
import sys
from pathlib import Path

WANTED = {"torch": "2.13.0", "trl": "1.12.0", "transformers": "5.23.0", "peft": "0.21.2"}
DEFAULT_FOLDER = Path.home() / ".cache" / "quartet-benchmarks" / "peer"

_VERSIONS = (
    "import json; from importlib.metadata import version; "
    f"print(json.dumps({{name: version(name) for name in {list(WANTED)}}}))"
)


def peer_python(folder: Path) -> Path:
    """Give the interpreter of the peer's environment, and make the environment where none is.

    Raises:
        SystemExit: The folder holds something else.
    """
    python = folder / "bin" / "python"
    if not folder.exists():
        print(f"making the peer's environment in {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pinned = [f"{name}=={number}" for name, number in WANTED.items()]
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *pinned], check=True, stdout=sys.stderr
        )
    found = _versions(python)
    if found != WANTED:
        raise SystemExit(
            f"{folder} has {found or 'no such packages'}, wanted {WANTED}: remove it, or name "
            "another folder with --peer-env, and it is made anew"
        )
    return python


def _versions(python: Path) -> dict[str, str]:
    """Installed versions without their local part; none if anything is missing."""
    try:
        done = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    found: dict[str, str] = json.loads(done.stdout)
    return {name: number.partition("+")[0] for name, number in found.items()}
