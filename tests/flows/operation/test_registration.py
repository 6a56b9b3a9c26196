"""Registration with a Prefect server that knows other flows too."""

import os
from pathlib import Path

import yaml
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.events import Resource, ResourceSpecification

from flows.operation.deployments import prefect_yaml
from flows.operation.registration import AUTOMATIONS, POOL, deploy, ensure_work_pool
from tasks.machine.lookup import prefect_client

FLOW = """
from prefect import flow

@flow
def ours() -> None:
    pass
"""

DEPLOYMENTS = """
pull: []
deployments:
- name: nightly
  entrypoint: ours.py:ours
  work_pool: {name: quartet}
  schedules:
  - {slug: weekly, active: false, cron: "0 3 * * 0"}
"""


def test_deployment_of_another_flow_by_the_same_name_is_left_alone(
    tmp_path: Path, prefect_server: str
) -> None:
    (tmp_path / "ours.py").write_text(FLOW)
    (tmp_path / "prefect.yaml").write_text(DEPLOYMENTS)
    ensure_work_pool(prefect_server)
    with prefect_client(prefect_server) as client:
        daily = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 4 * * *"), active=False)
        theirs = [
            client.create_deployment(
                client.create_flow_from_name(f"theirs-{number}"),
                name="nightly",
                work_pool_name=POOL,
                schedules=[daily],
            )
            for number in range(3)
        ]
        before = [client.read_deployment(one) for one in theirs]
        environment = {**os.environ, "PREFECT_API_URL": prefect_server}
        log, file = tmp_path / "deploy.log", tmp_path / "prefect.yaml"
        assert deploy(prefect_server, file, log=log, environment=environment) == ["nightly"]
        ours = client.read_deployment_by_name("ours/nightly")
        assert [one.slug for one in ours.schedules] == ["weekly"]
        assert [client.read_deployment(one).schedules for one in theirs] == [
            one.schedules for one in before
        ]
        for one in (ours.id, *theirs):
            client.delete_deployment(one)


def test_only_policies_of_the_evaluations_own_preset_are_evaluated_when_registered() -> None:
    """Others would get a verdict on another preset's prompts, and the newest verdict counts."""
    automation = yaml.safe_load((AUTOMATIONS / "evaluate-on-registration.yaml").read_text())
    name = automation["actions"][0]["deployment"].rpartition("/")[2]
    known = yaml.safe_load(prefect_yaml())["deployments"]
    (started,) = [one for one in known if one["name"] == name]
    own = started["parameters"]["run"]["preset"]
    wanted = ResourceSpecification(automation["trigger"]["match"])
    for preset in ("quickstart", "reviews", "hh-rlhf"):
        labels = {"quartet.role": "policy", "quartet.preset": preset}
        policy = Resource({"prefect.resource.id": f"quartet.model.{preset}-policy", **labels})
        assert wanted.matches(policy) == (preset == own)
