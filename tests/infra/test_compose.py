"""infra/compose.yaml as it is meant: a run through it, with servers dying, and a way back.

PostgreSQL, Redis, nginx with a certificate of its own authority, S3, MLflow and two Prefect API
servers run as processes (`stack.py`). Everything a person or a worker does goes through nginx.
"""

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow.tracking import MlflowClient

from flows.forms import RunForm
from tasks.results.curves import read_history
from tasks.tracking.metrics import without_silent
from tests.flows.conftest import TINY
from tests.flows.operated import until
from tests.infra.composed import ROOT
from tests.infra.stack import Stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SETTINGS = (*TINY, "pretrain.steps=4000", "pretrain.checkpoint_steps=1000")
STAGES = 9
SERVERS = ("prefect-a", "prefect-b", "prefect-services", "mlflow", "nginx", "worker")


class Team:
    """What people do with the stack: both servers by their public addresses, and the command."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.environment = stack.environment("worker")
        user, _, password = self.environment["PREFECT_API_AUTH_STRING"].partition(":")
        self.prefect = httpx.Client(
            base_url=self.environment["PREFECT_API_URL"],
            auth=(user, password),
            verify=ssl.create_default_context(cafile=self.environment["SSL_CERT_FILE"]),
            timeout=30,
            trust_env=False,
        )

    @property
    def mlflow(self) -> Any:
        """A client of MLflow, which takes credentials and authority from the environment."""
        return MlflowClient(self.environment["QUARTET_TRACKING_URI"])

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Prefect's answer; one server may be dead, and nginx asks the other."""
        answer = self.prefect.request("GET" if body is None else "POST", path, json=body)
        answer.raise_for_status()
        return answer.json()

    def start_pipeline(self, *further: str) -> str:
        """Start a run as the UI does."""
        form = RunForm.of("quickstart", (*SETTINGS, *further)).model_dump(mode="json")
        known = self.ask("/deployments/name/rlhf-pipeline/quickstart")["id"]
        made = self.ask(f"/deployments/{known}/create_flow_run", {"parameters": {"run": form}})
        return str(made["id"])

    def log_has(self, run: str, words: str) -> bool:
        wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_DESC", "limit": 200}
        return any(words in one["message"] for one in self.ask("/logs/filter", wanted))

    def state(self, run: str) -> str:
        return str(self.ask(f"/flow_runs/{run}")["state"]["name"])

    def quartet(self, *words: str, **environment: str) -> str:
        """A command of Quartet on a machine that knows the servers only."""
        done = subprocess.run(
            [sys.executable, "-c", "from flows.cli.app import main; main()", *words],
            env=self.environment | environment, cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        log = self.stack.folder / "logs" / f"quartet-{words[0]}.log"
        log.write_text(done.stdout + done.stderr)
        return done.stdout

    def everything(self) -> dict[str, Any]:
        """What a restored installation must show again."""
        runs = self.mlflow.search_runs(
            [one.experiment_id for one in self.mlflow.search_experiments()]
        )
        versions = self.mlflow.search_model_versions()
        registered = self.mlflow.search_registered_models()
        tasks, flows = (
            self.ask(f"/{kind}_runs/filter", {"sort": "ID_DESC"}) for kind in ("task", "flow")
        )
        return {
            "runs": {one.info.run_id: (one.data.metrics, one.data.params) for one in runs},
            "versions": sorted((v.name, v.version, str(sorted(v.tags.items()))) for v in versions),
            "aliases": {one.name: dict(one.aliases) for one in registered},
            "tasks": [(one["id"], one["name"], one["state"]["name"]) for one in tasks],
            "flows": [(one["id"], one["name"], one["state"]["name"]) for one in flows],
            "lineage": self.quartet("lineage", "models:/quickstart-policy/1"),
        }


@pytest.fixture
def team(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    people = Team(stack)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, people.environment[name])
    yield people
    people.prefect.close()


def test_compose_is_closed_survives_dead_servers_and_can_be_restored(team: Team) -> None:
    stack = team.stack
    until(lambda: stack.healthy("worker"), 90, "the worker's health check")
    refuse_what_must_be_refused(team)
    run = run_with_dying_servers(team)
    nothing_is_lost(team, run)
    before = team.everything()
    backup = Path(stack.run("backup").strip())
    for server in reversed(SERVERS):
        stack.stop(server)
    lose_everything(stack)
    stack.run("restore", f"/backups/{backup.name}")
    stack.up(*SERVERS[:-1])
    assert team.everything() == before
    another_machine_reuses_everything(team)
    artifacts_went_through_mlflow(stack)
    no_secret_has_left(stack, backup)


def refuse_what_must_be_refused(team: Team) -> None:
    prefect = team.environment["PREFECT_API_URL"].removesuffix("/api")
    mlflow = team.environment["QUARTET_TRACKING_URI"]
    verify = ssl.create_default_context(cafile=team.environment["SSL_CERT_FILE"])
    with httpx.Client(verify=verify, trust_env=False, timeout=30) as stranger:
        for address in (f"{prefect}/api/admin/version", f"{mlflow}/version"):
            assert stranger.get(address).status_code == 401
            assert stranger.get(address, auth=("admin", "guessed")).status_code == 401
        for address in (prefect, mlflow):
            known = {"auth": team.prefect.auth}
            foreign = stranger.get(address, headers={"Host": "evil.example"}, **known)
            assert foreign.status_code == 421
            page = stranger.get(address, headers={"Origin": "https://evil.example"}, **known)
            assert page.status_code == 403
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{prefect}/api/health", trust_env=False)


def run_with_dying_servers(team: Team) -> str:
    stack, run = team.stack, team.start_pipeline()
    until(lambda: team.log_has(run, "pretrain: step"), 180, "pretraining")
    stack.stop("mlflow")
    stack.up("mlflow")  # back before pretraining ends, whose model is registered then
    stack.kill("prefect-a")
    until(lambda: team.log_has(run, "sft: done"), 180, "SFT with one API server")
    stack.up("prefect-a")

    def completed() -> bool:
        state = team.state(run)
        assert state in ("Running", "Rejected"), f"{state}\n{stack.log('worker')[-4000:]}"
        return state == "Rejected"  # the policy is tiny

    until(completed, 240, "the run's end")
    return run


def nothing_is_lost(team: Team, run: str) -> None:
    def tasks() -> dict[str, str]:
        wanted = {"flow_runs": {"id": {"any_": [run]}}, "sort": "ID_DESC"}
        found = team.ask("/task_runs/filter", wanted)
        return {one["name"]: one["state"]["name"] for one in found}

    # What happens to a task run arrives as an event, perhaps seconds later.
    try:
        until(lambda: list(tasks().values()) == ["Completed"] * STAGES, 90, "every task's events")
    except AssertionError as error:
        raise AssertionError(f"{error}: {tasks()}") from error
    (parent,) = search(team, f"tags.`prefect.flow_run_id` = '{run}'")
    stages = search(team, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(stages) == STAGES
    home = Path(team.environment["QUARTET_HOME"])
    assert not list((home / "unrecorded").glob("*"))
    for stage in (*stages, parent):
        assert stage.info.status == "FINISHED"
    for stage in stages:
        name, digest = (stage.data.tags[f"quartet.{tag}"] for tag in ("stage", "digest"))
        curves = without_silent(read_history(home / "store" / name / digest))
        for metric, points in curves.items():
            known = team.mlflow.get_metric_history(stage.info.run_id, metric)
            assert {(one.step, one.value) for one in known} >= set(points), (name, metric)
    names = {one.name for one in team.mlflow.search_registered_models()}
    assert {f"quickstart-{role}" for role in ("base", "sft", "reward", "policy")} <= names


def search(team: Team, words: str) -> list[Any]:
    known = team.mlflow.get_experiment_by_name("quartet")
    return list(team.mlflow.search_runs([known.experiment_id], filter_string=words))


def lose_everything(stack: Stack) -> None:
    given = stack.environment("backup") | {"HOME": str(stack.folder)}
    for database in ("prefect", "mlflow", "mlflow-auth"):
        subprocess.run(["dropdb", "--force", database], env=given, check=True)
    subprocess.run(["rclone", "purge", f"artifacts:{given['S3_BUCKET']}"], env=given, check=True)
    stack.kill("redis")
    for path in (stack.folder / "volumes" / "redis").rglob("*.*"):
        path.unlink()


def another_machine_reuses_everything(team: Team) -> None:
    """A home folder that has never seen these stages: they come from MLflow."""
    home = team.stack.folder / "second-home"
    result = team.stack.folder / "second.json"
    words = [word for one in SETTINGS for word in ("--set", one)]
    place = {"QUARTET_HOME": str(home), "PREFECT_HOME": str(home / "prefect")}
    team.quartet("run", "quickstart", *words, "--result", str(result), **place)
    stages = json.loads(result.read_text())["stages"]
    assert len(stages) == STAGES
    assert all(stage["reused"] for stage in stages), stages


def artifacts_went_through_mlflow(stack: Stack) -> None:
    """On another machine a signed address of the S3 store leads nowhere."""
    assert "/mlflow-artifacts/artifacts/" in stack.log("nginx-access")
    assert "presigned" not in stack.log("nginx-access")
    assert "PUT /mlflow/artifacts/" in stack.log("s3")
    assert "Signature=" not in stack.log("s3")


def no_secret_has_left(stack: Stack, backup: Path) -> None:
    assert not stack.seen
    given = stack.environment("backup")
    for database in ("prefect", "mlflow", "mlflow-auth"):
        dump = stack.folder / "dumps" / database
        dump.parent.mkdir(exist_ok=True)
        subprocess.run(["pg_dump", "--file", dump, database], env=given, check=True)
    places = [stack.folder / "logs", stack.folder / "dumps", backup / "artifacts"]
    places += [stack.folder / "volumes" / "home", stack.folder / "second-home"]
    needles = [secret.encode() for secret in stack.secrets]
    for place in places:
        files = [path for path in place.rglob("*") if path.is_file()]
        assert files, place
        found = [path for path in files if any(one in path.read_bytes() for one in needles)]
        assert not found
