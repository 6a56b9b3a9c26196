"""The files of infra/kubernetes are what a cluster and Prefect's worker accept, and closed."""

import asyncio
import http.server
import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.client.schemas.objects import FlowRun
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)
from prefect_kubernetes.credentials import KubernetesClusterConfig
from prefect_kubernetes.worker import KubernetesWorker, KubernetesWorkerJobConfiguration

from tests.infra.composed import GRACE_SECONDS, INFRA, run

KUBERNETES = INFRA / "kubernetes"
OVERLAYS = ("cpu", "gpu")
PASSWORD = "admin:not-to-be-seen"
REQUIRED_AND_UNKNOWN = ("completions", "parallelism")
"""What prefect-kubernetes wants in a pod, and the cluster ignores there."""


def manifests(overlay: str) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl to build the overlays with")
    done = run("kubectl", "kustomize", KUBERNETES / "overlays" / overlay)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def template(overlay: str) -> dict[str, Any]:
    text = (KUBERNETES / "overlays" / overlay / "job-template.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def worker_settings() -> dict[str, str]:
    """The environment that the base gives the worker and its runs."""
    lines = (KUBERNETES / "base" / "settings.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


@contextmanager
def cluster() -> Iterator[tuple[KubernetesClusterConfig, list[dict[str, Any]]]]:
    """A cluster's API that takes Jobs: how to reach it, and what it was sent."""
    sent: list[dict[str, Any]] = []

    class Api(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/apis/batch/v1/namespaces/quartet/jobs"
            sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            sent[-1]["metadata"]["name"] = sent[-1]["metadata"]["generateName"] + "x"
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(sent[-1]).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        known = {
            "clusters": [{"name": "here", "cluster": {"server": address}}],
            "users": [{"name": "worker", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "worker"}}],
            "current-context": "here",
        }
        yield KubernetesClusterConfig(config=known, context_name="here"), sent
        server.shutdown()


async def start_run(overlay: str, at: KubernetesClusterConfig) -> None:
    """What the worker does with a run of the overlay's work pool."""
    configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(
        template(overlay), {}
    )
    started = FlowRun(flow_id=uuid4(), name="quartet-run")
    configuration.prepare_for_flow_run(started)
    configuration.cluster_config = at
    await KubernetesWorker(work_pool_name="quartet").run(started, configuration)


@pytest.fixture(scope="module")
def jobs() -> dict[str, dict[str, Any]]:
    """The Job of a run of each overlay, as the worker sends it with the base's settings."""
    opened = {
        PREFECT_API_URL: "https://quartet.example.com/api",
        PREFECT_API_AUTH_STRING: PASSWORD,
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    with pytest.MonkeyPatch.context() as patch, temporary_settings(opened), cluster() as (at, sent):
        for name, value in worker_settings().items():
            if name.startswith("PREFECT_INTEGRATIONS_"):  # read when a Job is made
                patch.setenv(name, value)
        for overlay in OVERLAYS:
            asyncio.run(start_run(overlay, at))
    return dict(zip(OVERLAYS, sent, strict=True))


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_fit_the_cluster_api(
    overlay: str, jobs: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    job = json.loads(json.dumps(jobs[overlay]))
    assert [pod_of(job).pop(name) for name in REQUIRED_AND_UNKNOWN] == [1, 1]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([*manifests(overlay), job]))
    done = run("kubernetes-validate", "--strict", tmp_path / "all.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_runs_get_the_password_from_the_secret_alone(
    overlay: str, jobs: dict[str, dict[str, Any]]
) -> None:
    assert PASSWORD not in json.dumps(jobs[overlay])
    (container,) = pod_of(jobs[overlay])["containers"]
    (given,) = (one for one in container["env"] if one["name"] == "PREFECT_API_AUTH_STRING")
    (secret,) = (one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one)
    wanted = {"name": secret, "key": "PREFECT_API_AUTH_STRING"}
    assert given["valueFrom"] == {"secretKeyRef": wanted}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_runs_are_stopped_with_time_to_save(overlay: str, jobs: dict[str, dict[str, Any]]) -> None:
    pod = pod_of(jobs[overlay])
    assert pod["terminationGracePeriodSeconds"] >= GRACE_SECONDS + 15
    (container,) = pod["containers"]
    assert container["command"][2:] == ["tasks.machine.guardian", str(GRACE_SECONDS), "inner"]
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert container["stdin"] is True  # the guardian ends when its standard input closes


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_are_confined(overlay: str, jobs: dict[str, dict[str, Any]]) -> None:
    pods = [
        one["spec"]["template"]["spec"]
        for one in (*manifests(overlay), jobs[overlay])
        if one["kind"] in ("Deployment", "Job")
    ]
    assert len(pods) == 3
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(container["resources"]["limits"])
            assert {"secretRef": {"name": "quartet-client"}} in container["envFrom"]


def test_runs_get_gpus_in_the_gpu_overlay_only(jobs: dict[str, dict[str, Any]]) -> None:
    limits = {name: pod_of(job)["containers"][0]["resources"] for name, job in jobs.items()}
    assert limits["gpu"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in limits["cpu"]["limits"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_job_templates_define_every_variable_that_they_use(overlay: str) -> None:
    body = template(overlay)
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(body["job_configuration"])))
    assert used == set(body["variables"]["properties"])


def test_databases_are_migrated_by_the_image_that_serves_them() -> None:
    chart = yaml.safe_load((KUBERNETES / "values-mlflow.yaml").read_text(encoding="utf-8"))
    assert chart["backendStore"]["databaseMigration"] is True
    assert chart["initImages"]["mlflowDbMigration"] == chart["image"]


def test_artifacts_go_through_mlflow_for_people_as_for_runs() -> None:
    """The ingress hands out signed addresses of an S3 store that only the cluster reaches."""
    shown = (INFRA / "README.md").read_text(encoding="utf-8")
    clients = shown.split("\n## Clients\n")[1].split("\n## ")[0]
    for way in ("DOWNLOAD", "UPLOAD"):
        name = f"MLFLOW_ENABLE_PROXY_MULTIPART_{way}"
        assert worker_settings()[name] == "false"
        assert f"{name}=false" in clients
