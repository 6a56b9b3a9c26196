"""Registration of work pool, deployments and automations with the Prefect server.

It can be repeated at every start: what people changed in the UI (active schedules, enabled
automations, limits of the pool) is kept.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    BlockDocumentCreate,
    DeploymentScheduleCreate,
    WorkPoolCreate,
)
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.client.schemas.objects import DeploymentSchedule, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker
from pydantic import ValidationError

from models.errors import QuartetError
from tasks.escaping import for_terminal
from tasks.machine.logs import tail
from tasks.machine.lookup import prefect_client
from tasks.machine.servers import start_child
from tasks.results.store import write_whole
from tasks.settings import load_settings

POOL = "quartet"

AUTOMATIONS = Path(__file__).parent / "automations"
"""The automations that Quartet brings, one YAML file each."""

DEPLOY_SECONDS = 300.0

NOWHERE = {
    "name": "Quartet",
    "url": "https://webhook.invalid/fill-in-your-own",
    "json_data": {"text": "{{subject}}\n{{body}}"},
}
"""A webhook to fill in; Slack, Mattermost and others take messages of this form."""


def ensure_work_pool(api: str) -> WorkPool:
    """Create the work pool if there is none.

    Raises:
        QuartetError: It exists, but for another type of worker.
    """
    with prefect_client(api) as client:
        try:
            pool = client.read_work_pool(POOL)
        except ObjectNotFound:
            pool = client.create_work_pool(
                WorkPoolCreate(
                    name=POOL,
                    type="process",
                    description="Runs of Quartet, as processes on the worker's machine.",
                    base_job_template=ProcessWorker.get_default_base_job_template(),
                )
            )
    if pool.type != "process":
        raise QuartetError(
            f"the work pool {POOL!r} at {api} is of type {pool.type!r}, wanted 'process'; delete "
            f"it (`prefect work-pool delete {POOL}`) or use another Prefect server"
        )
    return pool


def worker_online_since(api: str, moment: float) -> bool:
    """Whether a worker of the pool has sent a heartbeat since a wall-clock time."""
    with prefect_client(api) as client:
        workers = client.read_workers_for_work_pool(POOL)
    heard = [one.last_heartbeat_time for one in workers if one.status == "ONLINE"]
    return any(when is not None and when.timestamp() >= moment for when in heard)


def deploy(api: str, file: Path, *, log: Path, environment: Mapping[str, str]) -> list[str]:
    """Register every deployment of a prefect.yaml by `prefect deploy --all`; return the names.

    Raises:
        QuartetError: There is no such file, or a deployment was not registered.
    """
    names = _names(file)
    with prefect_client(api) as client:
        before = _registered(client, names)
    words = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    child = start_child(
        "prefect deploy",
        [sys.executable, "-m", *words],
        log=log,
        environment=environment,
        folder=file.parent,
    )
    try:
        child.process.wait(timeout=DEPLOY_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        child.stop()
    with prefect_client(api) as client:
        fresh = {
            key: one
            for key, one in _registered(client, names).items()
            if key not in before or one.updated != before[key].updated
        }
        missing = list((Counter(names) - Counter(one.name for one in fresh.values())).elements())
        if child.ended() or missing:
            raise QuartetError(
                f"`prefect deploy --all` with {file} ended with status {child.ended()} and did "
                f"not register {', '.join(missing) or 'everything'}; fix what its log shows and "
                f"start again. The end of {log}:\n{tail(log)}"
            )
        for key, new in fresh.items():
            if key in before:
                _keep_schedules(client, before[key].schedules, key, new.schedules)
    return names


def _registered(client: SyncPrefectClient, names: list[str]) -> dict[UUID, DeploymentResponse]:
    """Every deployment of these names, by id, for those of other flows may have the same name."""
    wanted = DeploymentFilter(name=DeploymentFilterName(any_=names))
    return {one.id: one for one in client.read_deployments(deployment_filter=wanted)}


def write_deployments(home: Path) -> Path:
    """Write the prefect.yaml of what Quartet brings into a home; return its path."""
    from flows.operation.deployments import prefect_yaml

    file = home / "prefect.yaml"
    write_whole(file, prefect_yaml())
    return file


def _names(file: Path) -> list[str]:
    if not file.is_file():
        raise QuartetError(
            f"there is no {file}, wanted the deployments to register; leave --prefect-file out for "
            "those of Quartet"
        )
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    names = [str(one.get("name")) for one in content.get("deployments") or []]
    if not names:
        raise QuartetError(f"{file} names no deployments, wanted at least one; restore the file")
    return names


def _keep_schedules(
    client: SyncPrefectClient,
    old: list[DeploymentSchedule],
    deployment_id: Any,
    new: list[DeploymentSchedule],
) -> None:
    """Keep the state of schedules, and those that were created in the UI."""
    by_slug = {one.slug: one for one in new if one.slug}
    for schedule in old:
        known = by_slug.get(schedule.slug or "")
        if known is not None and known.active != schedule.active:
            client.update_deployment_schedule(deployment_id, known.id, active=schedule.active)
        elif not schedule.slug and not any(one.schedule == schedule.schedule for one in new):
            kept = DeploymentScheduleCreate(
                schedule=schedule.schedule,
                active=schedule.active,
                max_scheduled_runs=schedule.max_scheduled_runs,
                parameters=schedule.parameters,
            )
            client.create_deployment_schedules(deployment_id, [kept])


def apply_automations(api: str, folder: Path) -> list[str]:
    """Create or update the automations of a folder of YAML files by name; return the names.

    A new one is disabled unless its file says otherwise. An action may give its deployment as
    `deployment: flow/deployment` and its block as `block: name`; Prefect wants ids, which differ
    between servers. A block that people chose instead in the UI is kept.

    Raises:
        QuartetError: A file is not an automation, or its deployment does not exist.
    """
    names = []
    with prefect_client(api) as client:
        for path in sorted(folder.glob("*.yaml")):
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise QuartetError(f"{path} is not an automation, wanted name, trigger and actions")
            known = next(iter(client.read_automations_by_name(str(content.get("name")))), None)
            before = list(known.actions) if known else []
            for action, old in zip_longest(content.get("actions", []), before):
                _fill_in(client, path, action or {}, old)
            try:
                wanted = AutomationCore.model_validate({"enabled": False, **content})
            except ValidationError as error:
                problems = "; ".join(
                    f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3]
                )
                raise QuartetError(
                    f"{path} is not a valid automation ({problems}); correct it"
                ) from error
            if known:
                kept = wanted.model_copy(update={"enabled": known.enabled})
                client.update_automation(known.id, kept)
            else:
                client.create_automation(wanted)
            names.append(wanted.name)
    return names


def _fill_in(client: SyncPrefectClient, path: Path, action: dict[str, Any], old: object) -> None:
    """Put ids in the place of an action's names."""
    if "deployment" in action:
        action["deployment_id"] = _deployment_id(client, path, action.pop("deployment"))
    if "block" in action:
        name, chosen = action.pop("block"), getattr(old, "block_document_id", None)
        action["block_document_id"] = str(chosen or _block_id(client, name))


def _block_id(client: SyncPrefectClient, name: str) -> UUID:
    """The webhook of a name; a new one leads nowhere until people fill it in."""
    try:
        return client.read_block_document_by_name(name, "custom-webhook").id
    except ObjectNotFound:
        kind = client.read_block_type_by_slug("custom-webhook")
        schema = client.get_most_recent_block_schema_for_block_type(kind.id)
        assert schema is not None, "a server registers its block types when it starts"
        made = BlockDocumentCreate(
            name=name, data=NOWHERE, block_type_id=kind.id, block_schema_id=schema.id
        )
        return client.create_block_document(made).id


def _deployment_id(client: SyncPrefectClient, path: Path, name: str) -> str:
    try:
        return str(client.read_deployment_by_name(name).id)
    except ObjectNotFound as error:
        raise QuartetError(
            f"{path} starts the deployment {name!r}, which does not exist; name one of "
            "`prefect deployment ls`"
        ) from error


def main() -> None:
    """Register what Quartet brings with the server that PREFECT_API_URL names."""
    api = os.environ.get("PREFECT_API_URL", "")
    try:
        if not api:
            raise QuartetError("PREFECT_API_URL is not set, wanted the Prefect server's address")
        if "--keep-pool" not in sys.argv[1:]:
            ensure_work_pool(api)
        home = load_settings().root
        log, file = home / "logs" / "deploy.log", write_deployments(home)
        names = deploy(api, file, log=log, environment=os.environ)
        names += apply_automations(api, AUTOMATIONS)
    except QuartetError as error:
        sys.exit(f"quartet: {error}")
    print(for_terminal(f"Registered with {api}: {', '.join(names)}"))


if __name__ == "__main__":
    main()
