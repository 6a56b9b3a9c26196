"""The command line: `quartet run PRESET`, `up`, `compare`, `promote`, `chat` and the others.

Parameters are checked before anything starts; an error is one line and exit status 2. Heavy imports
stand inside the commands, so that errors appear at once.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.arguments import checked, want_home
from flows.cli.check import check
from flows.cli.environment import prepare_environment
from flows.cli.evaluate import benchmark, compare, evaluate
from flows.cli.improve import improve
from flows.cli.plan import plan as plan_run
from flows.cli.presets import print_presets
from flows.cli.registry import gc, lineage, promote, rollback
from flows.cli.run import run
from flows.cli.terminal import be_robust, refusals, refuse, say
from flows.cli.use import chat, serve
from models.errors import QuartetError
from tasks.machine.addresses import use_running_servers
from tasks.machine.signals import leave_when_told
from tasks.machine.temporary import ensure_prefect
from tasks.run.faults import faults_explained
from tasks.settings import load_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"quartet {version('quartet-rlhf')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """RLHF as a workflow: pretraining, SFT, reward model, PPO and evaluation, tracked."""


@app.command()
def presets(
    name: Annotated[str, typer.Argument(help="Show the values of this preset.")] = "",
) -> None:
    """List the presets, or show the values of one; * marks what differs from the defaults."""
    with refusals():
        print_presets(name)


PREFECT_PORT = typer.Option(help="Port of the Prefect server.", min=1, max=65535)
MLFLOW_PORT = typer.Option(help="Port of the MLflow server.", min=1, max=65535)


@app.command()
def up(
    prefect_port: Annotated[int, PREFECT_PORT] = 4200,
    mlflow_port: Annotated[int, MLFLOW_PORT] = 5000,
    worker: Annotated[bool, typer.Option(help="Also run a worker.")] = True,
    password: Annotated[
        bool,
        typer.Option(
            help="Ask for the home folder's password. Without, every account of this machine, and "
            "every web page open in a browser on it, can start runs with commands of its own."
        ),
    ] = True,
    prefect_file: Annotated[
        Path | None,
        typer.Option(help="File of deployments in place of those of Quartet."),
    ] = None,
) -> None:
    """Start or find both servers, register the deployments and run a worker, until Ctrl-C."""
    if prefect_port == mlflow_port:
        refuse(f"--prefect-port and --mlflow-port are both {mlflow_port}; choose two ports")
    _check_settings()
    with refusals():
        prefect_file = checked({"prefect-file": prefect_file})["prefect-file"]
    from flows.operation.up import Options
    from flows.operation.up import up as serve

    options = Options(
        prefect_port=prefect_port,
        mlflow_port=mlflow_port,
        worker=worker,
        password=password,
        prefect_file=prefect_file and prefect_file.absolute(),
    )
    with _errors_in_one_line():
        raise typer.Exit(serve(options))


@app.command()
def join(
    address: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="QUARTET_RENDEZVOUS of the first host.")
    ],
) -> None:
    """Take part with this host's processes in what another host trains, until Ctrl-C."""
    _check_settings()
    leave_when_told()
    from flows.operation.joining import join as take_part

    with _errors_in_one_line():
        _prepare_environment()
        with contextlib.suppress(KeyboardInterrupt):
            take_part(address, load_settings(), say)


@app.command()
def status() -> None:
    """Show servers, worker, recent runs and disk space."""
    _check_settings()
    from flows.operation.status import status as overview

    with _errors_in_one_line():
        _prepare_environment()
        say(overview(load_settings()))


@app.command()
def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip the check that schedules create runs.")
    ] = False,
    prefect_port: Annotated[int | None, PREFECT_PORT] = None,
    mlflow_port: Annotated[int | None, MLFLOW_PORT] = None,
) -> None:
    """Check versions, ports, disk, servers and store; exit status 1 if a check fails."""
    _check_settings()
    from flows.operation.doctor import diagnose, print_checks

    with _errors_in_one_line():
        use_running_servers(load_settings())
        checks = diagnose(
            load_settings(), quick=quick, prefect_port=prefect_port, mlflow_port=mlflow_port
        )
        raise typer.Exit(print_checks(checks))


@app.command()
def sync() -> None:
    """Send to both servers what they missed: results of an outage, ends of killed runs."""
    _check_settings()
    with _errors_in_one_line():
        _prepare_environment()
        settings = load_settings()
        from flows.operation.status import stale_runs

        if stale_runs(settings):
            ensure_prefect(settings)
        from tasks.registry.aliases import repair_all_aliases
        from tasks.registry.registration import finish_registrations, make_missed_registrations
        from tasks.tracking.sync import sync as deliver
        from tasks.upkeep.reconcile import reconcile

        repairs = (make_missed_registrations, repair_all_aliases, finish_registrations)
        done = 0
        for finish in (reconcile, deliver, *repairs):
            for sentence in finish(settings):
                say(sentence)
                done += 1
        if not done:
            say("nothing to do: no run was killed, and MLflow has every result and registration")


def _add(command: Callable[..., None], *, prepares: bool = False) -> None:
    """Add a command of another module, with checks and environment.

    Args:
        prepares: Whether it prepares the environment itself, when its parameters are checked.
    """

    @functools.wraps(command)
    def run_command(*args: Any, **kwargs: Any) -> None:
        _check_settings()
        with refusals():
            kwargs = checked(kwargs)
        with _errors_in_one_line():
            if not prepares:
                _prepare_environment()
            command(*args, **kwargs)

    app.command()(run_command)


app.command()(check)
_add(run, prepares=True)
for _command in (
    plan_run,
    improve,
    compare,
    evaluate,
    benchmark,
    promote,
    rollback,
    lineage,
    gc,
    chat,
    serve,
):
    _add(_command)


def main() -> None:
    """Entry point of the `quartet` command."""
    be_robust()
    app()


def _check_settings() -> None:
    """Refuse a wrong environment variable before anything starts."""
    with refusals():
        want_home(load_settings())


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Print an expected error in one line without its traceback, and exit with status 1."""
    ended: typer.Exit | None = None
    try:
        with faults_explained(load_settings()):
            try:
                yield
            except typer.Exit as end:  # all was said; its cause is not to be explained once more
                ended = end
    except QuartetError as error:
        say(f"quartet: {error}", err=True)
        raise typer.Exit(1) from error
    if ended is not None:
        raise ended


def _prepare_environment() -> None:
    with refusals():
        prepare_environment(load_settings())
