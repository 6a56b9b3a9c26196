"""Addresses of runs' pages, on the servers that run or on those that `quartet up` would start."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from tasks.machine.lookup import HOST, loopback_url
from tasks.machine.temporary import started
from tasks.settings import Settings
from tasks.tracking.client import Tracker


def mlflow_page(settings: Settings, run_id: str) -> str:
    """Address of a run's page in MLflow."""
    root = (settings.tracking_uri or loopback_url("MLflow", 5000)).rstrip("/")
    try:
        return f"{root}/{Tracker(settings).page(run_id)}"
    except Exception:  # MLflow went away just now
        return root


def see_more(settings: Settings, *, mlflow_run_id: str, flow_run_id: str) -> Iterator[str]:
    """Where both servers show a run, and what starts them where they do not run."""
    from prefect.settings import get_current_settings

    prefect = get_current_settings()
    served = prefect.api.url and prefect.api.url not in started
    if settings.tracking_uri and served:
        yield "See more:"
    else:
        quartet = str(Path(sys.executable).parent / "quartet")
        home = f"QUARTET_HOME={shlex.quote(str(settings.root))}"
        yield f"See more, after {home} {shlex.quote(quartet)} up:"
    pages = str(prefect.ui_url).rstrip("/") if served else f"http://{HOST}:4200"
    yield f"  MLflow   {mlflow_page(settings, mlflow_run_id)}"
    yield f"  Prefect  {pages}/runs/flow-run/{flow_run_id}"
