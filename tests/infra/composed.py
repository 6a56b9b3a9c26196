"""infra/compose.yaml read: its variables filled in, and what its services extend; a tool run."""

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
GRACE_SECONDS = 45
"""What `quartet up` and the guardian give runs to save."""


def search_path() -> str:
    """PATH with PostgreSQL's own folder, which Debian leaves out, and this environment first."""
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders = [Path(sys.executable).parent, *servers, "/usr/sbin", "/sbin"]
    return os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """A tool of this environment."""
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, cwd=ROOT,
        env={"PATH": search_path(), "HOME": str(ROOT)},
    )  # fmt: skip


def settings(ports: list[int]) -> dict[str, str]:
    """The `.env` of the test: each empty line of .env.example gets a secret of its own."""
    text = (INFRA / ".env.example").read_text(encoding="utf-8")
    names = re.findall(r"^(\w+)=$", text, flags=re.MULTILINE)
    chosen = {name: f"{name[0].lower()}{secrets.token_hex(12)}" for name in names}
    return chosen | {
        "QUARTET_HOST": "localhost",
        "PREFECT_PORT": str(ports[0]),
        "MLFLOW_PORT": str(ports[1]),
        "WORKER_NAME": "worker-1",
    }


def resolved(file: str, values: dict[str, str], folder: Path) -> dict[str, Any]:
    """A compose file with its variables filled in, by podman-compose.

    Raises:
        subprocess.CalledProcessError: It is refused, as where a required variable is missing.
    """
    (folder / "values.env").write_text("".join(f"{k}={v}\n" for k, v in values.items()))
    stub = folder / "bin" / "podman"  # asked for its version only
    stub.parent.mkdir(exist_ok=True)
    stub.write_text("#!/bin/sh\necho podman version 5.0.0\n")
    stub.chmod(0o755)
    words = ["podman-compose", "--profile", "backup", "--env-file", str(folder / "values.env")]
    words += ["-f", file, "config"]
    done = subprocess.run(
        words, cwd=INFRA, capture_output=True, text=True, check=True,
        env={"PATH": f"{stub.parent}{os.pathsep}{search_path()}", "HOME": str(folder)},
    )  # fmt: skip
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


def services_of(values: dict[str, str], folder: Path) -> dict[str, dict[str, Any]]:
    """The services of compose.yaml, what they extend included."""
    services: dict[str, dict[str, Any]] = resolved("compose.yaml", values, folder)["services"]
    others = {one["extends"]["file"] for one in services.values() if "extends" in one}
    known = {file: resolved(file, values, folder)["services"] for file in others}
    for name, service in services.items():
        if (origin := service.pop("extends", None)) is not None:
            services[name] = known[origin["file"]][origin["service"]] | service
    return services
