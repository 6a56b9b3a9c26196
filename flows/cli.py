"""The command line: `quartet run PRESET`, `quartet presets`.

Parameters are checked before anything starts; what is wrong is one line and exit status 2.
Heavy imports stand inside the commands, so that a wrong word is answered at once.
"""

import json
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from flows.parameters import PipelineParameters, list_presets, load_preset
from models.errors import DataError, ParameterError, QuartetError
from tasks.data.sources import folder_files
from tasks.settings import load_settings

__all__ = ["app", "main"]

app = typer.Typer(
    help="RLHF as a workflow: pretraining, SFT, reward model, PPO and evaluation, tracked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def presets() -> None:
    """List the presets, one line each."""
    for name, description in list_presets().items():
        typer.echo(f"{name:12} {description}")


@app.command()
def run(
    preset: Annotated[str, typer.Argument(help="One of `quartet presets`.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="path.to.field=value, such as ppo.kl_coef=0.1; may repeat."),
    ] = None,
    result: Annotated[
        Path | None, typer.Option(help="Write the run's result to this file as JSON.")
    ] = None,
) -> None:
    """Run the pipeline of a preset and print what it came to."""
    parameters = _parameters(preset, settings or [])
    if result is not None and not result.absolute().parent.is_dir():
        _refuse(f"--result: the folder {result.absolute().parent} does not exist; make it first")
    if result is not None and result.is_dir():
        _refuse(f"--result: {result} is a folder, wanted a file to write; name one in it")
    _check_folder(parameters)
    _prepare_environment()
    from flows.pipeline import rlhf_pipeline
    from flows.report import print_result, result_json  # Prefect and MLflow: seconds to import

    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_without_traceback)
    # Leave by an exception: a process that a signal ends leaves Prefect's temporary server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        outcome = rlhf_pipeline(parameters)
    except QuartetError as error:
        typer.echo(f"quartet: {type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from error
    print_result(outcome, load_settings())
    if result is not None:
        try:
            result.write_text(json.dumps(result_json(outcome), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            typer.echo(f"quartet: --result could not be written: {error}", err=True)
            raise typer.Exit(1) from error


def main() -> None:
    """Entry point of the `quartet` command."""
    app()


def _parameters(preset: str, settings: list[str]) -> PipelineParameters:
    try:
        load_settings()  # a wrong environment variable is answered like a wrong parameter
        return load_preset(preset, settings)
    except ParameterError as error:
        _refuse(str(error))
        raise


def _check_folder(parameters: PipelineParameters) -> None:
    """Refuse a folder without the files that are needed before any server starts."""
    if parameters.data.source == "folder":
        try:
            folder_files(Path(parameters.data.folder).expanduser())
        except DataError as error:
            _refuse(str(error))


def _without_traceback(record: logging.LogRecord) -> bool:
    """Log an error that was raised on purpose in one line; where it was raised helps nobody."""
    if record.exc_info and isinstance(record.exc_info[1], QuartetError):
        record.exc_info = record.exc_text = None
    return True


def _refuse(message: str) -> None:
    typer.echo(f"quartet: {message}", err=True)
    raise typer.Exit(2)


def _prepare_environment() -> None:
    """Set what Prefect and MLflow read from the environment, where the user has not set it.

    Without a Prefect server of the user's own, Prefect starts one for the run; its database lies
    in Quartet's home folder.
    """
    root = load_settings().root
    root.mkdir(parents=True, exist_ok=True)
    for name, value in {
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{root / 'prefect.db'}",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "models,tasks",
    }.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=DeprecationWarning)
