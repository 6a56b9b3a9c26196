"""`quartet up`: both servers, the deployments and a worker, until Ctrl-C.

Servers that run already are used. What is started here is watched, and stopped at the end in
reverse order, so that an interrupted run can still report to both servers.
"""

import contextlib
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import flows
from models.errors import QuartetError
from tasks.machine.logs import explain, tail
from tasks.machine.servers import (
    HOST,
    Child,
    Kind,
    child_environment,
    find_server,
    one_at_a_time,
    server_command,
    start_child,
    wait_for_server,
)
from tasks.settings import Settings, load_settings

WORKER_SECONDS = 90.0
WORKER_GRACE_SECONDS = 45.0
"""For flow runs to save their checkpoints and report their states."""

STEADY_SECONDS = 600.0
"""A service that stops is restarted; if it stops again within this time, `quartet up` ends."""

LOOK_SECONDS = 0.5
HEALTH_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of the command line; automations are in infra/automations beside the file."""

    prefect_port: int = 4200
    mlflow_port: int = 5000
    worker: bool = True
    prefect_file: Path = Path(str(flows.__file__)).resolve().parents[1] / "prefect.yaml"


@dataclass(slots=True, kw_only=True)
class _Service:
    """A child process that is kept running."""

    name: str
    start: Callable[[], Child]
    wait: Callable[[Child], None]
    child: Child
    started: float


class _Operation:
    """Everything that one `quartet up` has started and must stop."""

    def __init__(self, options: Options, settings: Settings) -> None:
        self.options, self.settings = options, settings
        self.services: list[_Service] = []
        self.found: dict[str, int] = {}  # servers started by others, with their ports
        self.gone: set[str] = set()
        self.api = f"http://{HOST}:{options.prefect_port}/api"
        self.tracking_uri = (
            settings.tracking_uri
            if settings.tracking_uri.startswith("http")
            else f"http://{HOST}:{options.mlflow_port}"
        )
        self.environment = child_environment(
            settings, prefect_port=options.prefect_port, mlflow_uri=self.tracking_uri
        )

    def add(self, name: str, start: Callable[[], Child], wait: Callable[[Child], None]) -> _Service:
        service = _Service(
            name=name, start=start, wait=wait, child=start(), started=time.monotonic()
        )
        self.services.append(service)
        return service

    def log(self, name: str) -> Path:
        return self.settings.root / "logs" / f"{name.lower().replace(' ', '-')}.log"

    def start_servers(self) -> None:
        wanted: dict[Kind, int] = {"Prefect": self.options.prefect_port}
        if self.tracking_uri != self.settings.tracking_uri:
            wanted["MLflow"] = self.options.mlflow_port
        else:
            _say(f"MLflow server: {self.tracking_uri}, from QUARTET_TRACKING_URI")
        answers = {kind: find_server(kind, port) for kind, port in wanted.items()}
        started = []
        for kind, port in wanted.items():
            if (answer := answers[kind]) is not None:
                self.found[kind] = port
                _say(f"{kind} server {answer.version}: found at {answer.url}, reused")
            else:
                _say(f"{kind} server: starting on port {port} ...")
                started.append(self._add_server(kind, port))
        for service in started:
            service.wait(service.child)
            _say(f"{service.name}: up after {time.monotonic() - service.started:.0f} s")

    def _add_server(self, kind: Kind, port: int) -> _Service:
        def start() -> Child:
            name, command = f"{kind} server", server_command(kind, self.settings, port)
            return start_child(name, command, log=self.log(name), environment=self.environment)

        def wait(child: Child) -> None:
            wait_for_server(kind, port, child, say=_say)

        return self.add(f"{kind} server", start, wait)

    def register(self) -> None:
        """Register work pool, deployments and automations; reconcile runs that were killed."""
        # Prefect takes seconds to import, while the servers start.
        from flows.operation import registration
        from tasks.upkeep.reconcile import reconcile

        registration.ensure_work_pool(self.api)
        _say("Deployments: registering ...")
        names = registration.deploy(
            self.api,
            self.options.prefect_file,
            log=self.log("deploy"),
            environment=self.environment,
        )
        _say(f"Deployments: {', '.join(names)}")
        folder = self.options.prefect_file.parent / "infra" / "automations"
        automations = registration.apply_automations(self.api, folder)
        if automations:
            _say(f"Automations: {', '.join(automations)} (enable them in the UI)")
        for sentence in reconcile(load_settings()):
            _say(sentence)

    def start_worker(self) -> None:
        from flows.operation import registration

        name = f"quartet-{platform.node() or 'worker'}"
        words = ["prefect", "worker", "start", "--pool", registration.POOL, "--type", "process"]
        command = [sys.executable, "-m", *words, "--name", name, "--install-policy", "never"]

        def start() -> Child:
            return start_child(
                "Worker",
                command,
                log=self.log("worker"),
                environment=self.environment,
                grace_seconds=WORKER_GRACE_SECONDS,
                inner_first=True,
            )

        def wait(child: Child) -> None:
            begin, moment = time.monotonic(), time.time() - 1
            while not registration.worker_online_since(self.api, moment):
                waited = time.monotonic() - begin
                if child.ended() is not None or waited > WORKER_SECONDS:
                    what = f"not online after {waited:.0f} s, status {child.ended()}"
                    raise QuartetError(explain(child.name, what, child.log))
                time.sleep(0.3)

        service = self.add("Worker", start, wait)
        service.wait(service.child)
        _say(f"Worker: {name} is online in the work pool {registration.POOL}")

    def watch(self) -> None:
        looked = time.monotonic()
        while True:
            for service in self.services:
                if service.child.ended() is not None:
                    self._restart(service)
            if time.monotonic() - looked > HEALTH_SECONDS:
                self._check_found()
                looked = time.monotonic()
            time.sleep(LOOK_SECONDS)

    def _restart(self, service: _Service) -> None:
        child, lived = service.child, time.monotonic() - service.started
        text = f"{service.name} stopped unexpectedly with status {child.ended()}"
        end = f"The end of {child.log}:\n{tail(child.log)}"
        if lived < STEADY_SECONDS and service.name in self.gone:
            raise QuartetError(f"{text}, again after {lived:.0f} s; fix the cause. {end}")
        _say(f"{text}; restarting. {end}")
        self.gone.add(service.name)
        service.child, service.started = service.start(), time.monotonic()
        service.wait(service.child)
        _say(f"{service.name}: up again")

    def _check_found(self) -> None:
        for name, port in self.found.items():
            kind: Kind = "Prefect" if name == "Prefect" else "MLflow"
            try:
                answers = find_server(kind, port) is not None
            except QuartetError:
                answers = False
            if answers == (name in self.gone):
                _say(
                    f"{name} server on port {port} "
                    + ("answers again" if answers else "no longer answers")
                )
                (self.gone.discard if answers else self.gone.add)(name)

    def stop(self, interrupted: Callable[[], bool]) -> None:
        if any(service.name == "Worker" for service in self.services):
            _say(
                "Stopping. Active runs save a checkpoint and end as Crashed; retry them in the UI "
                "to resume. (Ctrl-C again: stop at once.)"
            )
        for service in reversed(self.services):
            service.child.stop(interrupted)
            _say(f"{service.name}: stopped")


def up(options: Options) -> int:
    """Serve until a signal; return the exit status.

    Raises:
        QuartetError: A port is taken, or a service stopped repeatedly.
    """
    operation = _Operation(options, load_settings())
    note = {
        "pid": os.getpid(),
        "prefect": operation.api.removesuffix("/api"),
        "mlflow": operation.tracking_uri,
    }
    begin = time.monotonic()
    with one_at_a_time(operation.settings, note), _signals() as interruptions:
        _say(f"Home folder: {operation.settings.root}")
        try:
            os.environ.update(operation.environment)  # modules imported later read it
            operation.start_servers()
            operation.register()
            if options.worker:
                operation.start_worker()
            _say(_invitation(operation, time.monotonic() - begin))
            operation.watch()
        except KeyboardInterrupt:
            pass
        finally:
            interruptions.append(0)  # from here on a signal no longer interrupts, it speeds up
            already = len(interruptions)
            operation.stop(lambda: len(interruptions) > already)
    return 0


def _invitation(operation: _Operation, seconds: float) -> str:
    lines = [
        f"Ready after {seconds:.0f} s.\n  Prefect  {operation.api.removesuffix('/api')}",
        f"  MLflow   {operation.tracking_uri}",
        "Start a run: Deployments > quickstart > Run in Prefect, or",
        f"  PREFECT_API_URL={operation.api} prefect deployment run rlhf-pipeline/quickstart",
    ]
    if not operation.options.worker:
        lines.append("No worker; start one with `prefect worker start --pool quartet`.")
    return "\n".join([*lines, "Ctrl-C stops everything started here."])


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Turn the first termination signal into KeyboardInterrupt, and record all."""
    seen: list[int] = []

    def handler(number: int, _: object) -> None:
        seen.append(number)
        if len(seen) == 1:
            raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield seen
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _say(text: str) -> None:
    print(text, flush=True)
