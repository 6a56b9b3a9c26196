"""Which servers a `quartet up` uses, who starts them, and how people log in."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.errors import QuartetError
from tasks.machine.addresses import UpNote
from tasks.machine.lookup import Kind, find_server, is_loopback, loopback_url
from tasks.machine.password import USER, home_password, password_file
from tasks.machine.postgres import MLFLOW_DATABASE, PREFECT_DATABASE, check_database
from tasks.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """The two servers of one `quartet up`.

    Attributes:
        urls: Their addresses; Prefect's is that of its API.
        wanted: Ports of those that are not there yet and are started here.
        password: Of the home folder, which opens those; None leaves them open.
    """

    urls: Mapping[Kind, str]
    wanted: Mapping[Kind, int]
    password: str | None

    @property
    def api(self) -> str:
        """Address of Prefect's API."""
        return self.urls["Prefect"]

    @property
    def prefect(self) -> str:
        """Address of Prefect's pages."""
        return self.api.removesuffix("/api")

    @property
    def mlflow(self) -> str:
        return self.urls["MLflow"]

    @property
    def found(self) -> dict[Kind, str]:
        """Those that somebody else has started."""
        return {kind: url for kind, url in self.urls.items() if kind not in self.wanted}

    def note(self) -> UpNote:
        """What other terminals need to know."""
        ours: dict[Kind, str] = {"Prefect": self.prefect, "MLflow": self.mlflow}
        closed = [ours[kind] for kind in self.wanted] if self.password else []
        return UpNote(pid=os.getpid(), prefect=self.prefect, mlflow=self.mlflow, closed=closed)


def choose_servers(
    settings: Settings,
    ports: Mapping[Kind, int],
    *,
    closed: bool,
    say: Callable[[str], None],
) -> Servers:
    """Look for both servers; those that are not there are to be started.

    PREFECT_API_URL and QUARTET_TRACKING_URI name servers elsewhere, which must be there.

    Args:
        settings: Of the home folder, which gets a password where `closed`.
        ports: Of loopback, one for each server.
        closed: Whether servers that are started ask for the password.
        say: Takes a sentence for people.

    Raises:
        QuartetError: Something else has a port, a server does not accept our credentials, or
            PostgreSQL that the environment names does not.
    """
    urls = {kind: loopback_url(kind, port) for kind, port in ports.items()}
    named: dict[Kind, str] = {
        "Prefect": _elsewhere(os.environ.get("PREFECT_API_URL", "")),
        "MLflow": settings.tracking_uri,
    }
    urls |= {kind: url for kind, url in named.items() if url}
    wanted: dict[Kind, int] = {}
    for kind, url in urls.items():
        answer = find_server(kind, url)
        if answer is not None:
            open_to_all = "" if answer.closed else "; it asks for no password"
            say(f"{kind} server {answer.version}: found at {answer.url}, reused{open_to_all}")
        elif named[kind]:
            variable = "PREFECT_API_URL" if kind == "Prefect" else "QUARTET_TRACKING_URI"
            raise QuartetError(
                f"there is no {kind} server at {url}; start it, or unset {variable} and one is "
                "started here"
            )
        else:
            wanted[kind] = ports[kind]
    for kind, variables in (("Prefect", PREFECT_DATABASE), ("MLflow", (MLFLOW_DATABASE,))):
        for variable in variables if kind in wanted else ():
            check_database(variable, os.environ.get(variable, ""))
    password = home_password(settings.root) if closed else None
    return Servers(urls=urls, wanted=wanted, password=password)


def _elsewhere(api: str) -> str:
    """An address of Prefect's API on another machine; that of this one is the port's business."""
    return "" if not api or is_loopback(api) else api.rstrip("/")


def how_to_log_in(servers: Servers, settings: Settings) -> list[str]:
    """Lines for people; the password itself is not among them."""
    file = password_file(settings.root)
    if servers.password is None:
        return [
            "No password: every account of this machine, and every web page open in a browser on",
            "it, can start runs with commands of its own. Without --no-password there is one.",
        ]
    lines = []
    if "Prefect" in servers.wanted:
        lines.append(f'Prefect asks   for what this prints: echo "{USER}:$(cat {file})"')
    if "MLflow" in servers.wanted:
        lines.append(f"MLflow asks    for user {USER} and the password: cat {file}")
    return lines
