"""What Prefect, MLflow, torch and others read from the environment, set before their import."""

import os
import sys
import warnings

from models.errors import ParameterError
from tasks.machine.addresses import use_running_servers
from tasks.machine.launch import EVENT_SECONDS, OPENMP_SPINS
from tasks.settings import Settings


def prepare_environment(settings: Settings) -> None:
    """Set defaults for what Prefect and MLflow read from the environment.

    The servers are those of a running `quartet up`, unless others are set. A temporary Prefect
    server has its database in the home folder.
    """
    root = settings.root
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ParameterError(
            f"the home folder {root} cannot be made ({error}); set QUARTET_HOME to another"
        ) from error
    use_running_servers(settings)
    for name, value in {
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{root / 'prefect.db'}",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "GOMP_SPINCOUNT": OPENMP_SPINS,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "models,tasks",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # planning happens outside of one
        "PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS": "tasks.run.logs.ConsoleHandler",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES": EVENT_SECONDS,
    }.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=DeprecationWarning)
