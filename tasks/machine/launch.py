"""What `quartet up` starts the two servers and the worker with: command and environment.

Secrets stand in an environment, which only its owner's account can read, and never in a command.
"""

import json
import os
import secrets
import sys
from pathlib import Path

from tasks.machine.addresses import mlflow_credentials, prefect_credentials
from tasks.machine.lookup import HOST, Kind
from tasks.machine.password import USER
from tasks.machine.postgres import MLFLOW_DATABASE, PREFECT_DATABASE, is_postgres
from tasks.settings import Settings

SERVER_ONLY = (
    *PREFECT_DATABASE,
    "PREFECT_SERVER_API_AUTH_STRING",
    MLFLOW_DATABASE,
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
)
"""Variables of the servers that may hold secrets, which the worker and its runs do not get."""

OPENMP_SPINS = "30000"
"""Turns for which a thread of GNU OpenMP, torch's on Linux, waits for others before it sleeps.

Its own 300,000 outlast the work of a small network's layer: where other processes want the cores
too, threads spin while those that they wait for have no core (`tests/benchmarks/README.md`).
"""

EVENT_SECONDS = json.dumps(
    {
        "prefect.artifact-collection.created": 3600,
        "prefect.artifact-collection.updated": 3600,
        "prefect.artifact.created": 3600,
        "prefect.artifact.updated": 3600,
        "prefect.flow-run.heartbeat": 604800,
    }
)
"""How long Prefect keeps these events; those of artifacts repeat every report and picture."""

LEASE_STORAGE = "prefect.server.concurrency.lease_storage.filesystem"

AUTH_CONFIG = """\
# Written by `quartet up`. The password stands in the file beside it.
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {accounts}
admin_username = {user}
# Without this each request hashes the password again, which takes a quarter of a second.
auth_cache_ttl_seconds = 300
"""


def accounts_file(root: Path) -> Path:
    """MLflow's database of accounts; it keeps the password with which it was made."""
    return root / "mlflow-auth.db"


def server_command(kind: Kind, port: int, *, closed: bool) -> list[str]:
    """Command that serves on loopback; a closed MLflow is that of `tasks/tracking/server.py`."""
    words = ["server", "start"] if kind == "Prefect" else ["server", "--workers", "1"]
    if kind == "MLflow" and closed:
        words += ["--app-name", "quartet"]
    return [sys.executable, "-m", kind.lower(), *words, "--host", HOST, "--port", str(port)]


def server_environment(
    kind: Kind, settings: Settings, port: int, password: str | None
) -> dict[str, str]:
    """Environment of a server: its database, who may ask it, and the password that opens it.

    The database is PostgreSQL where the environment says so, else a file in the home folder.
    """
    environment = (_prefect if kind == "Prefect" else _mlflow)(settings.root, port, password)
    return {**environment, "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}


def _prefect(root: Path, port: int, password: str | None) -> dict[str, str]:
    url = f"http://{HOST}:{port}"
    named = [os.environ.get(name, "") for name in PREFECT_DATABASE]
    database = next(filter(is_postgres, named), "")
    chosen = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # In memory, a restarted server would forget the leases and still count their slots.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASE_STORAGE,
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES": EVENT_SECONDS,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{url},http://localhost:{port}",
    }
    fixed = {
        "PREFECT_HOME": str(root / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": database
        or f"sqlite+aiosqlite:///{root / 'prefect.db'}",
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_UI_URL": url,
    }
    if password is not None:
        fixed |= prefect_credentials(password)
        fixed["PREFECT_SERVER_API_AUTH_STRING"] = f"{USER}:{password}"
    return {**chosen, **_inherited("PREFECT_SERVER_API_AUTH_STRING", *PREFECT_DATABASE), **fixed}


def _mlflow(root: Path, port: int, password: str | None) -> dict[str, str]:
    chosen = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Its default lets pages of any host whose name begins like a private network's read.
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{HOST}:{port},localhost:{port}",
        MLFLOW_DATABASE: f"sqlite:///{root / 'mlflow.db'}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(root / "mlflow-artifacts"),
    }
    fixed = {}
    if password is not None:
        config = root / "mlflow-auth.ini"
        accounts = f"sqlite:///{accounts_file(root)}"
        config.write_text(AUTH_CONFIG.format(accounts=accounts, user=USER), encoding="utf-8")
        fixed = {
            "MLFLOW_AUTH_CONFIG_PATH": str(config),
            "MLFLOW_AUTH_ADMIN_USERNAME": USER,
            "MLFLOW_AUTH_ADMIN_PASSWORD": password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        }
    return {**chosen, **os.environ, **fixed}


def worker_environment(
    settings: Settings, *, prefect_api: str, mlflow_uri: str, password: str | None, ours: set[Kind]
) -> dict[str, str]:
    """Environment of the worker and through it of every flow run.

    Args:
        settings: Of the home folder.
        prefect_api: Address of Prefect's API.
        mlflow_uri: Address of the MLflow server.
        password: Of the home folder; None where the servers are open.
        ours: The servers that it opens, for they are started here.
    """
    root = settings.root
    chosen = {
        "PREFECT_HOME": str(root / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "PREFECT_WORKER_PREFETCH_SECONDS": "5",
        "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "models,tasks",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS": "tasks.run.logs.ConsoleHandler",
        "PREFECT_LOGGING_COLORS": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "GOMP_SPINCOUNT": OPENMP_SPINS,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
    }
    fixed = {
        "PREFECT_API_URL": prefect_api,
        "PREFECT_UI_URL": prefect_api.removesuffix("/api"),
        "QUARTET_HOME": str(root),
        "QUARTET_TRACKING_URI": mlflow_uri,
    }
    if password is not None and "Prefect" in ours:
        fixed |= prefect_credentials(password)
    if password is not None and "MLflow" in ours:
        fixed |= mlflow_credentials(password)
    return {**chosen, **_inherited(*SERVER_ONLY), **fixed}


def _inherited(*but: str) -> dict[str, str]:
    """The environment of this process without some variables."""
    return {name: value for name, value in os.environ.items() if name not in but}
