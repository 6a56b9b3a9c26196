"""What infra/compose.yaml says, as processes on loopback.

The file's services are started with its commands, environments, dependencies and health checks.
What differs: each port of each service is a free one of this machine and each host name is
loopback; paths in containers are folders of the test; PostgreSQL's and nginx's images are replaced
by the installed programs with what their entry points do; S3 is moto instead of SeaweedFS.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.flows.operated import until
from tests.infra.composed import INFRA, ROOT, search_path, services_of, settings
from tests.ports import free_ports

PORTS = {"postgres": 5432, "redis": 6379, "s3": 8333, "mlflow": 5000, "worker": 8080}
APIS = ("prefect-a", "prefect-b")
API_PORT = 4200
REDIS_HOST = "PREFECT_REDIS_MESSAGING_HOST"
PROGRAMS = (
    "postgres",
    "initdb",
    "psql",
    "pg_dump",
    "redis-server",
    "nginx",
    "rclone",
    "openssl",
    "wget",
    "podman-compose",
    "moto_server",
)
START_SECONDS = 300.0
NOBODY = "postgres"
"""PostgreSQL refuses to run as root: then this account runs it."""


def missing_programs() -> list[str]:
    """What the stack needs and this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]


class Stack:
    """The services, their processes, and a watch on every command line of the machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = free_ports(2 + len(PORTS) + len(APIS))
        self.values = settings(ports)
        self.ports = dict(zip((*PORTS, *APIS), ports[2:], strict=True))
        self.services = services_of(self.values, folder)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.seen: set[str] = set()
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look_at_command_lines, daemon=True)
        self.tls = folder / "tls"
        script = [str(INFRA / "certificate.sh"), "localhost", str(self.tls)]
        subprocess.run(script, check=True, stdout=subprocess.DEVNULL)
        self._watch.start()

    @property
    def secrets(self) -> set[str]:
        """Every value of `.env` that must stay out of logs, artifacts and command lines."""
        return {
            value
            for name, value in self.values.items()
            if name.endswith(("PASSWORD", "_KEY")) and name != "S3_ACCESS_KEY"
        }

    # --- from containers to processes ---------------------------------------------------------

    def mapped(self, name: str, text: str) -> str:
        """What a service of the file reads, with addresses and paths of this machine."""
        places = {target: source for source, target in self._mounts(name)}
        inside = "|".join(re.escape(one) for one in sorted(places, key=len, reverse=True))
        text = re.sub(rf"(?<![\w.])({inside})(?![\w.-])", lambda m: places[m[1]], text)
        for api in APIS:
            text = text.replace(f"{api}:{API_PORT}", f"127.0.0.1:{self.ports[api]}")
        if name in APIS:
            text = re.sub(rf"\b{API_PORT}\b", str(self.ports[name]), text)
        for other, port in PORTS.items():
            text = text.replace(f"{other}:{port}", f"127.0.0.1:{self.ports[other]}")
            text = re.sub(rf"@{other}:", "@127.0.0.1:", text)
            text = re.sub(rf"(?<!\d)\b{port}\b", str(self.ports[other]), text)
        return text.replace("0.0.0.0", "127.0.0.1")

    def _mounts(self, name: str) -> Iterator[tuple[str, str]]:
        for volume in self.services[name].get("volumes", []):
            source, target = volume.split(":")[:2]
            if source.startswith("./tls/"):
                source = str(self.tls / source.removeprefix("./tls/"))
            elif source == "./backups" or not source.startswith("./"):
                source = str(self._made("volumes", source.removeprefix("./")))
            else:
                source = str(self._copied(name, INFRA / source))
            yield source, target
        yield str(INFRA), "/app/infra"
        yield str(self._made("tmp", name)), "/tmp"

    def _made(self, *parts: str) -> Path:
        path = self.folder.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _copied(self, name: str, file: Path) -> Path:
        """A mounted file with the addresses of this machine in it."""
        copy = self._made("mounted", name) / file.name
        if not copy.exists():
            copy.write_text("")  # `mapped` asks for the mounts again
            copy.write_text(self.mapped(name, file.read_text(encoding="utf-8")))
        return copy

    def environment(self, name: str) -> dict[str, str]:
        """What the file gives a service, and nothing of ours but where programs lie."""
        written = self.services[name].get("environment") or {}
        given = {key: self.mapped(name, str(value)) for key, value in written.items()}
        hosts = {key: "127.0.0.1" for key in given if key in ("PGHOST", REDIS_HOST)}
        ours = {"PATH": search_path(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return ours | given | hosts

    def command(self, name: str) -> list[str]:
        """Command of a service; of images that are not ours, what their entry points start."""
        if name == "postgres":
            data, port = self.folder / "volumes" / "postgres", self.ports["postgres"]
            words = ["postgres", "-D", str(data / "data"), "-k", str(data), "-p", str(port)]
            return [*words, "-h", "127.0.0.1", "-c", "fsync=off"]
        if name == "nginx":
            return ["nginx", "-c", str(self.folder / "nginx.conf")]
        if name == "s3":
            return ["moto_server", "--host", "127.0.0.1", "--port", str(self.ports["s3"])]
        service = self.services[name]
        words = [*service.get("entrypoint", []), *service.get("command", [])]
        return [self.mapped(name, str(word)) for word in words]

    # --- life ---------------------------------------------------------------------------------

    def prepare(self, name: str) -> None:
        """What the entry points of PostgreSQL's and nginx's images do first."""
        if name == "postgres" and not (self.folder / "volumes" / "postgres").exists():
            self._initialise_postgres()
        if name == "nginx":
            self._fill_in_nginx()

    def _initialise_postgres(self) -> None:
        data = self._made("volumes", "postgres")
        given = self.environment("postgres")
        (data / "password").write_text(given["POSTGRES_PASSWORD"])
        if os.geteuid() == 0:
            shutil.chown(data, NOBODY)
            shutil.chown(data / "password", NOBODY)
        words = [
            "initdb",
            "-D",
            str(data / "data"),
            "-U",
            "postgres",
            "--auth-local=trust",
            "-E",
            "UTF8",
        ]
        words += [f"--pwfile={data / 'password'}", "--no-sync"]
        words += given["POSTGRES_INITDB_ARGS"].split()
        self._once("initdb", words, given, account=True)
        (data / "password").unlink()
        self.start("postgres")
        address = f"host={data} port={self.ports['postgres']} user=postgres"
        until(lambda: self._succeeds(["psql", address, "-c", "select 1"], given), 60, "PostgreSQL")
        script = (INFRA / "postgres" / "init.sql").read_text(encoding="utf-8")
        self._once("init.sql", ["psql", "-v", "ON_ERROR_STOP=1", address], given, script=script)

    def _fill_in_nginx(self) -> None:
        (template,) = (s for s, target in self._mounts("nginx") if target.endswith(".template"))
        text, given = Path(template).read_text(), self.environment("nginx")
        for variable in ("QUARTET_HOST", "PREFECT_PORT", "MLFLOW_PORT"):
            text = text.replace(f"${{{variable}}}", given[variable])
        text = re.sub(r"listen (\d+)", r"listen 127.0.0.1:\1", text)
        temporary = "".join(
            f"{kind}_temp_path {self._made('tmp', 'nginx')}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
        )
        account = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(
            f"daemon off; {account} pid {self.folder}/nginx.pid; error_log stderr warn;\n"
            f"events {{}}\nhttp {{\naccess_log {self.folder}/logs/nginx-access.log;\n"
            f"{temporary}{text}\n}}\n"
        )

    def start(self, name: str) -> None:
        """Start a service's process."""
        log = self._made("logs") / f"{name}.log"
        as_root = name == "postgres" and os.geteuid() == 0
        account: dict[str, Any] = {"user": NOBODY, "extra_groups": []} if as_root else {}
        open_input = self.services[name].get("stdin_open", False)
        with log.open("ab") as file:
            self.processes[name] = subprocess.Popen(
                self.command(name),
                stdin=subprocess.PIPE if open_input else subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environment(name),
                cwd=self.folder,
                start_new_session=True,
                **account,
            )

    def up(self, *names: str) -> None:
        """Start services with what they depend on, as their conditions say."""
        wanted = self._with_dependencies(names)
        waiting = [name for name in wanted if name not in self.processes]
        end = time.monotonic() + START_SECONDS
        while waiting or not all(self._is(name, "started") for name in wanted):
            for name in list(waiting):
                needs = self.services[name].get("depends_on", {})
                if all(self._is(other, needs[other]["condition"]) for other in needs):
                    self.prepare(name)
                    if not self._runs(name):
                        self.start(name)
                    waiting.remove(name)
            assert time.monotonic() < end, f"{waiting} wait in vain\n{self.logs()[-6000:]}"
            time.sleep(0.3)

    def _with_dependencies(self, names: tuple[str, ...]) -> list[str]:
        found: dict[str, None] = {}
        for name in names:
            needs = tuple(self.services[name].get("depends_on", {}))
            found |= dict.fromkeys([*self._with_dependencies(needs), name])
        return list(found)

    def _runs(self, name: str) -> bool:
        process = self.processes.get(name)
        return process is not None and process.poll() is None

    def _is(self, name: str, condition: str) -> bool:
        process = self.processes.get(name)
        status = None if process is None else process.poll()
        assert not status, f"{name} ended with {status}\n{self.log(name)[-3000:]}"
        if condition == "service_completed_successfully":
            return status == 0
        if process is None or condition == "started":
            return process is not None
        return self.healthy(name)

    def healthy(self, name: str) -> bool:
        """What the service's health check says."""
        if name == "s3":
            address = f"http://127.0.0.1:{self.ports['s3']}/moto-api/"
            return self._succeeds(["wget", "-q", "-O", "/dev/null", address], {})
        kind, *words = self.services[name]["healthcheck"]["test"]
        words = [self.mapped(name, word) for word in words]
        words = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        return self._succeeds(words, self.environment(name))

    def run(self, name: str, *more: str) -> str:
        """`docker compose run --rm NAME ...`: what it prints."""
        words = [*self.command(name), *(self.mapped(name, word) for word in more)]
        return self._once(name, words, self.environment(name))

    def stop(self, name: str) -> None:
        """SIGTERM, and what the file's grace is for."""
        process = self.processes.pop(name)
        process.terminate()
        process.wait(timeout=90)
        if process.stdin is not None:
            process.stdin.close()

    def kill(self, name: str) -> None:
        """SIGKILL to a service and what it started."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)

    def close(self) -> None:
        """End what still runs, the databases last."""
        last = ("postgres", "redis", "s3")
        names = sorted(self.processes, key=lambda name: name in last)
        for name in names:
            if self._runs(name):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.stop(name)
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self._ended.set()
        self._watch.join()

    def _once(
        self, name: str, words: list[str], given: dict[str, str], *, account: bool = False,
        script: str | None = None,
    ) -> str:  # fmt: skip
        as_other = account and os.geteuid() == 0
        done = subprocess.run(
            words, env={"PATH": search_path(), **given}, cwd=self.folder, input=script, text=True,
            capture_output=True, user=NOBODY if as_other else None,
            extra_groups=[] if as_other else None,
        )  # fmt: skip
        log = self._made("logs") / f"{name}.log"
        log.write_text(done.stdout + done.stderr)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        return done.stdout

    def _succeeds(self, words: list[str], given: dict[str, str]) -> bool:
        done = subprocess.run(
            words, env={"PATH": search_path(), **given}, capture_output=True, cwd=self.folder
        )
        return done.returncode == 0

    # --- what is looked at --------------------------------------------------------------------

    def log(self, name: str) -> str:
        """What a service has written."""
        path = self.folder / "logs" / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def logs(self) -> str:
        """What all have written."""
        names = sorted(path.stem for path in (self.folder / "logs").glob("*.log"))
        return "\n".join(f"--- {name}\n{self.log(name)[-1500:]}" for name in names)

    def _look_at_command_lines(self) -> None:
        """Keep each secret that is seen in a command line, with the line."""
        while not self._ended.wait(0.2):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                    self.seen |= {line for secret in self.secrets if secret in line}
