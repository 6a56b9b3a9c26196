"""Which servers answer, and the credentials that open them.

Credentials stand in the environment, under the names that Prefect's and MLflow's own clients read:

    Prefect  PREFECT_API_AUTH_STRING, as user:password, or PREFECT_API_KEY
    MLflow   MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, or
             the file ~/.mlflow/credentials
"""

import base64
import configparser
import contextlib
import os
import re
import ssl
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import urlsplit

import httpx

from models.display import hide_passwords
from models.errors import QuartetError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

HOST = "127.0.0.1"
LOOPBACK = (HOST, "localhost", "::1")

Kind: TypeAlias = Literal["Prefect", "MLflow"]

HEALTH: dict[Kind, tuple[str, str, str]] = {
    "Prefect": ("/health", "true", "/admin/version"),
    "MLflow": ("/health", "OK", "/version"),
}
"""Where each server tells its health, what it says there, and where it tells its version."""

VARIABLES: dict[Kind, str] = {
    "Prefect": "PREFECT_API_AUTH_STRING (as user:password)",
    "MLflow": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
}
"""The variables that open each server."""

CERTIFICATES: dict[Kind, tuple[str, ...]] = {
    "Prefect": ("PREFECT_API_SSL_CERT_FILE", "SSL_CERT_FILE"),
    "MLflow": ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
}
"""The variables that name a certificate authority of one's own."""

PROCESSES = Path("/proc")
"""Where Linux tells who listens."""
AT_LOOPBACK = ("0100007F", "00000000", "0" * 32, "0000000000000000FFFF00000100007F")
"""The addresses, as it writes them, at which one is reached through `HOST`."""
ANSWER_SECONDS = 5.0
ANSWER_BYTES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server that answers and accepts our credentials.

    Attributes:
        url: Address for people, without Prefect's `/api`.
        closed: Whether it asks for credentials.
    """

    url: str
    version: str
    closed: bool


class NotOpenedError(QuartetError):
    """A server asks for a password, and what the environment has does not open it."""


def find_server(
    kind: Kind, url: str, environment: Mapping[str, str] | None = None
) -> RunningServer | None:
    """Return the server of this kind at an address, or None where nothing listens.

    Args:
        url: Of Prefect's API, with its `/api`; of MLflow's root.
        environment: Has the credentials and certificates, as the module's docstring says; by
            default that of this process.

    Raises:
        NotOpenedError: The credentials are missing or wrong.
        QuartetError: Something else answers there, or the address has a password in it.
    """
    environment = os.environ if environment is None else environment
    url = url.rstrip("/")
    if "@" in urlsplit(url).netloc:
        raise QuartetError(
            f"the address of the {kind} server has a password in it ({hide_passwords(url)}), and "
            f"addresses are shown; take it out, and set {VARIABLES[kind]}"
        )
    path, healthy, version_path = HEALTH[kind]
    try:
        with httpx.Client(
            verify=trusted(kind, url, environment),
            timeout=ANSWER_SECONDS,
            trust_env=not is_loopback(url),
        ) as client:
            answer = _get(client, url + path, {})
            if answer != healthy:
                raise _not_healthy(kind, url + path, f"answered {answer[:80]!r}")
            version = _get(client, url + version_path, {})
            if closed := version.startswith("401 "):
                version = _get(client, url + version_path, authorization(kind, environment))
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise QuartetError(
                f"the certificate of the {kind} server at {url} is not trusted ({error}); name the "
                f"file of its authority in {CERTIFICATES[kind][0]}"
            ) from error
        return None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        said = f"speaks no HTTP ({type(error).__name__}: {error})"
        raise _not_healthy(kind, url, said) from error
    if version.startswith("401 "):
        raise _not_opened(kind, url, environment)
    if re.match(r"\d+\.\d+", version := version.strip('"')):
        shown = url.removesuffix("/api") if kind == "Prefect" else url
        return RunningServer(url=shown, version=version, closed=closed)
    raise _not_healthy(kind, url + version_path, f"answered {version[:80]!r}")


def authorization(kind: Kind, environment: Mapping[str, str]) -> dict[str, str]:
    """The request header that opens a server; empty where the environment has no credentials."""
    if kind == "Prefect":
        pair, token = environment.get("PREFECT_API_AUTH_STRING"), environment.get("PREFECT_API_KEY")
    else:
        kept = configparser.ConfigParser(interpolation=None)
        with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
            kept.read(Path("~/.mlflow/credentials").expanduser())
        user, password = (
            environment.get(name.upper()) or kept.get("mlflow", name, fallback=None)
            for name in ("mlflow_tracking_username", "mlflow_tracking_password")
        )
        pair = f"{user}:{password}" if user and password else None
        token = environment.get("MLFLOW_TRACKING_TOKEN")
    if pair:
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode("ascii")}
    return {"Authorization": f"Bearer {token}"} if token else {}


def prefect_client(api: str) -> "SyncPrefectClient":
    """A client of a Prefect API, with the credentials of Prefect's settings."""
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY

    return SyncPrefectClient(
        api, auth_string=PREFECT_API_AUTH_STRING.value(), api_key=PREFECT_API_KEY.value()
    )


def trusted(
    kind: Kind, url: str, environment: Mapping[str, str]
) -> ssl.SSLContext | Literal[False]:
    """The authorities to trust: the usual ones, or those of the file or folder a variable names.

    Raises:
        OSError: There are none; it names the variable and the file.
    """
    if not url.startswith("https:"):
        return False  # to read the usual ones takes longer than the question
    name = next((name for name in CERTIFICATES[kind] if environment.get(name)), None)
    if name is None:
        return httpx.create_ssl_context()
    place = environment[name]
    try:
        if Path(place).is_dir():
            return ssl.create_default_context(capath=place)
        return ssl.create_default_context(cafile=place)
    except OSError as error:
        raise OSError(f"{name} is {place}, wanted a file of certificates: {error}") from error


def loopback_url(kind: Kind, port: int) -> str:
    """Where `find_server` looks for a server of this machine."""
    return f"http://{HOST}:{port}" + ("/api" if kind == "Prefect" else "")


def is_loopback(url: str) -> bool:
    """Whether an address is one of this machine alone."""
    return urlsplit(url).hostname in LOOPBACK


def held_by_another_account(port: int) -> bool:
    """Whether another account than ours listens on a port of loopback; Linux alone can tell."""
    return any(account != os.geteuid() for account, _ in _listening(port))


def served_by_others(port: int, processes: Collection[int]) -> bool:
    """Whether somebody listens on a port of loopback, but none of these; Linux alone can tell."""
    sockets = {name for _, name in _listening(port)}
    return bool(sockets) and not any(sockets & set(_open_files(pid)) for pid in processes)


def _listening(port: int) -> Iterator[tuple[int, str]]:
    """The account of each socket that takes connections to a port, and its name among files."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROCESSES / "net" / table).read_text().splitlines()[1:]:
                row = line.split()
                address, _, number = row[1].rpartition(":")
                if row[3] == "0A" and address in AT_LOOPBACK and int(number, 16) == port:
                    yield int(row[7]), f"socket:[{row[9]}]"


def _open_files(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for file in (PROCESSES / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(file.readlink())


def _get(client: httpx.Client, url: str, headers: dict[str, str]) -> str:
    """The beginning of an answer, or the status of one that is not 200."""
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code != 200:
            return f"{response.status_code} {response.reason_phrase}"
        for piece in response.iter_bytes(ANSWER_BYTES):
            return piece[:ANSWER_BYTES].decode("utf-8", "replace").strip()
    return ""


def _not_healthy(kind: Kind, url: str, said: str) -> QuartetError:
    port = urlsplit(url).port
    remedy = (
        f"end it, or choose another port with `--{kind.lower()}-port`"
        if is_loopback(url)
        else "correct the address"
    )
    held = f"port {port} is held by" if is_loopback(url) else "there is"
    return QuartetError(
        f"{held} something that is not a healthy {kind} server: {url} {said}; {remedy}"
    )


def _not_opened(kind: Kind, url: str, environment: Mapping[str, str]) -> NotOpenedError:
    given = authorization(kind, environment)
    what = "does not accept the password that was sent" if given else "asks for a password"
    verb = "correct" if given else "set"
    port = ", or use another port" if is_loopback(url) else ""
    return NotOpenedError(f"the {kind} server at {url} {what}; {verb} {VARIABLES[kind]}{port}")
