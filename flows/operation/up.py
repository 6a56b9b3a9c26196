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

from flows.operation.servers import choose_servers, how_to_log_in
from models.errors import QuartetError
from tasks.escaping import for_terminal
from tasks.machine.addresses import UpNote, one_at_a_time, write_note
from tasks.machine.launch import server_command, server_environment, worker_environment
from tasks.machine.logs import explain, tail
from tasks.machine.lookup import HOST, Kind, find_server
from tasks.machine.servers import Child, start_child, wait_for_server
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
    """Options of the command line.

    Attributes:
        prefect_file: Deployments in place of those of Quartet, with automations beside it.
    """

    prefect_port: int = 4200
    mlflow_port: int = 5000
    worker: bool = True
    password: bool = True
    prefect_file: Path | None = None


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
        self.gone: set[str] = set()
        self.first_page = ""
        ports: dict[Kind, int] = {"Prefect": options.prefect_port, "MLflow": options.mlflow_port}
        self.servers = choose_servers(settings, ports, closed=options.password, say=_say)
        self.environment = worker_environment(
            settings,
            prefect_api=self.servers.api,
            mlflow_uri=self.servers.mlflow,
            password=self.servers.password,
            ours=set(self.servers.wanted),
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
        started = []
        for kind, port in self.servers.wanted.items():
            _say(f"{kind} server: starting on port {port} ...")
            started.append(self._add_server(kind, port))
        for service in started:
            service.wait(service.child)
            _say(f"{service.name}: up after {time.monotonic() - service.started:.0f} s")

    def _add_server(self, kind: Kind, port: int) -> _Service:
        password = self.servers.password
        name, command = f"{kind} server", server_command(kind, port, closed=bool(password))

        def start() -> Child:
            environment = server_environment(kind, self.settings, port, password)
            home = self.settings.root  # uvicorn takes modules from its current folder
            return start_child(
                name, command, log=self.log(name), environment=environment, folder=home
            )

        def wait(child: Child) -> None:
            wait_for_server(kind, port, child, self.environment, say=_say)

        return self.add(name, start, wait)

    def register(self) -> None:
        """Register work pool, deployments and automations; reconcile runs that were killed."""
        # Prefect takes seconds to import, while the servers start.
        from flows.operation import registration
        from tasks.tracking.client import Tracker
        from tasks.tracking.outages import tolerated
        from tasks.tracking.views import install_views
        from tasks.upkeep.reconcile import reconcile

        registration.ensure_work_pool(self.servers.api)
        _say("Deployments: registering ...")
        given = self.options.prefect_file
        file = given or registration.write_deployments(self.settings.root)
        names = registration.deploy(
            self.servers.api,
            file,
            log=self.log("deploy"),
            environment=self.environment,
        )
        _say(f"Deployments: {len(names)} registered")
        folder = file.parent / "automations" if given else registration.AUTOMATIONS
        automations = registration.apply_automations(self.servers.api, folder)
        if automations:
            _say(
                f"Automations: {len(automations)}; those that are off wait on their page in Prefect"
            )
        for sentence in reconcile(load_settings()):
            _say(sentence)
        with tolerated("its views of the runs"):
            self.first_page = install_views(Tracker(load_settings()), "ppo")

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
            while not registration.worker_online_since(self.servers.api, moment):
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
        for kind, url in self.servers.found.items():
            try:
                answers = find_server(kind, url) is not None
            except QuartetError:
                answers = False
            if answers == (kind in self.gone):
                _say(
                    f"{kind} server at {url} {'answers again' if answers else 'no longer answers'}"
                )
                (self.gone.discard if answers else self.gone.add)(kind)

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
    settings, begin = load_settings(), time.monotonic()
    starting = UpNote(
        pid=os.getpid(),
        prefect=f"http://{HOST}:{options.prefect_port}",
        mlflow=settings.tracking_uri or f"http://{HOST}:{options.mlflow_port}",
    )
    with one_at_a_time(settings, starting), _signals() as interruptions:
        _say(f"Home folder: {settings.root}")
        operation = _Operation(options, settings)
        write_note(settings, operation.servers.note())
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
    servers = operation.servers
    lines = [
        f"Ready after {seconds:.0f} s; Ctrl-C stops everything started here.",
        f"  Start a run    {servers.prefect}/deployments?sort=CREATED_DESC",
        "                 or, in another terminal: quartet run quickstart",
        f"  Look at runs   {servers.prefect}/runs",
        f"  Compare them   {servers.mlflow}/{operation.first_page}",
        *(f"  {line}" for line in how_to_log_in(servers, operation.settings)),
    ]
    if not operation.options.worker:
        lines.append("  No worker: start one with `prefect worker start --pool quartet`")
    return "\n".join(lines)


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
    print(for_terminal(text), flush=True)
