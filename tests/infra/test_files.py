"""The files of infra/ are what their tools accept, and closed in the ways that no tool checks."""

import json
import re
import shutil
import ssl
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.machine.launch import EVENT_SECONDS, OPENMP_SPINS
from tasks.settings import Settings
from tests.infra.composed import GRACE_SECONDS, INFRA, resolved, run, services_of, settings
from tests.tls import make_certificate, serve_tls

KUBERNETES = INFRA / "kubernetes"


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    """A filled-in `.env`."""
    return settings([443, 8443])


@pytest.fixture(scope="module")
def services(
    values: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """The services of compose.yaml."""
    return services_of(values, tmp_path_factory.mktemp("compose"))


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


# --- the tools ----------------------------------------------------------------------------------


def test_yaml_is_clean() -> None:
    rules = "{extends: default, rules: {line-length: {max: 120, allow-non-breakable-words: true}, "
    rules += "document-start: disable, braces: {max-spaces-inside: 0}, indentation: {spaces: 2}}}"
    done = run("yamllint", "--strict", "-d", rules, INFRA)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", ["Dockerfile", "Dockerfile.cuda"])
def test_dockerfiles_are_clean(file: str) -> None:
    done = run("hadolint", INFRA / file)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", sorted(INFRA.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_shell(script: Path) -> None:
    done = run("sh", "-n", script)
    assert done.returncode == 0, done.stderr
    assert script.stat().st_mode & 0o100


def test_certificates_are_accepted_by_strict_readers(tmp_path: Path) -> None:
    """As Python 3.13 and newer read them by default."""
    authority = make_certificate(tmp_path)
    words = ("-x509_strict", "-purpose", "sslserver", "-CAfile", authority)
    done = run("openssl", "verify", *words, tmp_path / "server.pem")
    assert done.returncode == 0, done.stdout + done.stderr
    strict = ssl.create_default_context(cafile=authority)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    with serve_tls(tmp_path) as url, urllib.request.urlopen(url, context=strict) as answer:
        assert answer.status == 200


def test_compose_files_are_what_docker_accepts(values: dict[str, str], tmp_path: Path) -> None:
    if not shutil.which("docker") or run("docker", "compose", "version").returncode != 0:
        pytest.skip("no docker with its compose plug-in")
    (tmp_path / ".env").write_text("".join(f"{name}={one}\n" for name, one in values.items()))
    files = ("compose.yaml", "compose.worker.yaml", "compose.cuda.yaml")
    for given in (files[:1], (files[0], files[2]), files[1:2], files[1:]):
        words = [word for file in given for word in ("--file", INFRA / file)]
        done = run("docker", "compose", "--env-file", tmp_path / ".env", *words, "config", "-q")
        assert done.returncode == 0, done.stderr


# --- compose ------------------------------------------------------------------------------------


def test_compose_refuses_to_start_without_each_password(tmp_path: Path) -> None:
    values = settings([443, 8443]) | {"MLFLOW_SECRET_KEY": ""}
    with pytest.raises(subprocess.CalledProcessError) as refused:
        resolved("compose.yaml", values, tmp_path)
    assert "set MLFLOW_SECRET_KEY in .env" in refused.value.stderr
    text = (INFRA / "compose.yaml").read_text(encoding="utf-8")
    secret = [name for name in values if name.endswith(("PASSWORD", "_KEY"))]
    assert len(secret) == 9
    for name in secret:
        assert set(re.findall(rf"\$\{{{name}(..)", text)) == {":?"}, name


def test_example_has_every_required_variable_and_no_password() -> None:
    example = (INFRA / ".env.example").read_text(encoding="utf-8")
    for file in ("compose.yaml", "compose.worker.yaml"):
        text = (INFRA / file).read_text(encoding="utf-8")
        for name in re.findall(r"\$\{(\w+):\?", text):
            assert re.search(rf"^{name}=$", example, flags=re.MULTILINE), name


def test_only_nginx_is_reachable_from_outside(services: dict[str, dict[str, Any]]) -> None:
    assert [name for name, one in services.items() if one.get("ports")] == ["nginx"]
    networks = yaml.safe_load((INFRA / "compose.yaml").read_text())["networks"]
    closed = [name for name, one in networks.items() if one.get("internal")]
    for name in ("postgres", "redis", "s3"):
        assert set(services[name]["networks"]) <= set(closed), name
    assert services["worker"]["networks"] == ["front"]


def test_services_are_confined(services: dict[str, dict[str, Any]]) -> None:
    for name, one in services.items():
        assert one["user"] not in ("root", "0", "0:0"), name
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["mem_limit"], name
        assert one["cpus"], name
        assert one.get("privileged") is None, name
        assert ":latest" not in one["image"], name
        assert ":" in one["image"], name


def test_services_that_serve_have_health_checks(services: dict[str, dict[str, Any]]) -> None:
    serving = ("postgres", "redis", "s3", "prefect-a", "prefect-b", "mlflow", "nginx", "worker")
    for name in serving:
        assert services[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name


def test_secrets_stand_in_environments_only(
    services: dict[str, dict[str, Any]], values: dict[str, str]
) -> None:
    known = {v for k, v in values.items() if k.endswith(("PASSWORD", "_KEY"))}
    for name, one in services.items():
        spoken = [one.get("command"), one.get("entrypoint"), one.get("healthcheck")]
        assert not [secret for secret in known if secret in str(spoken)], name
    worker = str(services["worker"])
    for name in ("POSTGRES_PASSWORD", "MLFLOW_DB_PASSWORD", "REDIS_PASSWORD", "S3_SECRET_KEY"):
        assert values[name] not in worker


def test_workers_are_stopped_with_time_to_save(services: dict[str, dict[str, Any]]) -> None:
    worker = services["worker"]
    assert worker["command"][2:5] == ["tasks.machine.guardian", str(GRACE_SECONDS), "inner"]
    assert worker["stdin_open"] is True  # the guardian ends when its standard input closes
    assert seconds(worker["stop_grace_period"]) >= GRACE_SECONDS + 15


def test_workers_take_every_setting_of_the_readme(
    services: dict[str, dict[str, Any]], values: dict[str, str], tmp_path: Path
) -> None:
    fixed = {"QUARTET_HOME", "QUARTET_TRACKING_URI"}  # by the file itself
    text = (INFRA / "README.md").read_text(encoding="utf-8").split("\n## Settings\n")[1]
    listed = tuple(re.findall(r"`(QUARTET_\w+)", text.split("\n## ")[0]))
    known = {f"QUARTET_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in known if name.startswith(listed)} == known
    wanted = {name: f"one-{name}" for name in (known | {"QUARTET_ROLLOUT_KEY"}) - fixed}
    worker = resolved("compose.worker.yaml", values | wanted, tmp_path)["services"]["worker"]
    assert worker["environment"].items() >= wanted.items()
    unset = services["worker"]["environment"]
    assert {unset[name] for name in wanted} == {"", "quartet"}
    example = (INFRA / ".env.example").read_text(encoding="utf-8").splitlines()
    for name in wanted:
        assert f"# {name}={unset[name]}" in example


def test_threads_sleep_as_soon_as_under_quartet_up(services: dict[str, dict[str, Any]]) -> None:
    assert services["worker"]["environment"]["GOMP_SPINCOUNT"] == OPENMP_SPINS
    lines = (KUBERNETES / "base" / "settings.env").read_text(encoding="utf-8").splitlines()
    assert f"GOMP_SPINCOUNT={OPENMP_SPINS}" in lines


def test_both_prefect_servers_share_what_they_must(services: dict[str, dict[str, Any]]) -> None:
    for name in ("prefect-a", "prefect-b", "prefect-services"):
        given = services[name]["environment"]
        assert given["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"] == "prefect_redis.lease_storage"
        assert given["PREFECT_MESSAGING_BROKER"] == "prefect_redis.messaging"
        assert "sqlite" not in given["PREFECT_API_DATABASE_CONNECTION_URL"]
        assert "PREFECT_API_KEY" not in given
    both = [services[name]["command"] for name in ("prefect-a", "prefect-b")]
    assert all("--no-services" in one for one in both)


def test_events_are_kept_everywhere_as_long_as_by_quartet_up(
    services: dict[str, dict[str, Any]],
) -> None:
    chart = yaml.safe_load((KUBERNETES / "values-prefect-server.yaml").read_text())
    name = "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES"
    (charted,) = (one["value"] for one in chart["global"]["prefect"]["env"] if one["name"] == name)
    for given in (services["prefect-services"]["environment"][name], charted):
        assert json.loads(given) == json.loads(EVENT_SECONDS)
