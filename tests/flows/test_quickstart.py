"""The quickstart at full size: accepted as it is, rejected where it must be.

The controls share one base model, for what they show comes after pretraining.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.browser import ROWS, browser
from tests.flows.operated import operated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    """What `--result` wrote for each run that came to a verdict."""
    return []


@pytest.fixture(scope="module")
def quartet(
    tmp_path_factory: pytest.TempPathFactory, results: list[dict[str, Any]]
) -> Iterator[Run]:
    """Run the preset as a user would, in one home folder; gives what `--result` wrote."""
    home = tmp_path_factory.mktemp("quickstart")

    def run(*settings: str, refused: str = "", name: str = "") -> dict[str, Any]:
        result = home / "result.json"
        command = [str(Path(sys.executable).parent / "quartet"), "run", "quickstart"]
        command += ["--name", name]
        for setting in settings:
            command += ["--set", setting]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("QUARTET_")}
        done = subprocess.run(
            [*command, "--result", str(result)],
            env=environment | {"QUARTET_HOME": str(home)},
            capture_output=True,
            text=True,
        )
        if refused and done.returncode == 1:
            assert refused in done.stderr
            return {}
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        results.append(json.loads(result.read_text()))
        return results[-1] | {"output": done.stdout, "home": home}

    return run


@pytest.fixture(scope="module")
def accepted(quartet: Run) -> dict[str, Any]:
    """The preset as it ships."""
    return quartet()


@pytest.fixture(scope="module")
def free(quartet: Run, accepted: dict[str, Any]) -> dict[str, Any]:
    """PPO that may go anywhere."""
    return quartet("ppo.kl_coef=0", name="without KL")


def stage(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in result["stages"] if one["name"] == name)


def test_quickstart_is_accepted_and_says_so(accepted: dict[str, Any]) -> None:
    final = accepted["final"]
    assert accepted["verdict"]["accepted"], accepted["verdict"]["reasons"]
    assert final["final/gold_gain_low"] > 0
    assert final["final/prompts"] >= 512
    assert stage(accepted, "reward")["metrics"]["reward/accuracy_low"] > 0.5
    for words in ("gold score", "correct answers", "polite", "correct refusals", "accepted"):
        assert words in accepted["output"]


def test_quickstart_reuses_every_stage_when_run_again(
    quartet: Run, accepted: dict[str, Any]
) -> None:
    again = quartet()
    assert all(one["reused"] for one in again["stages"])
    assert [one["digest"] for one in again["stages"]] == [
        one["digest"] for one in accepted["stages"]
    ]


@pytest.mark.campaign
def test_quickstart_over_optimises_without_kl(
    free: dict[str, Any], accepted: dict[str, Any]
) -> None:
    computed = [one["name"] for one in free["stages"] if not one["reused"]]
    assert computed == ["ppo", "evaluate"]
    assert not free["verdict"]["accepted"]
    # What PPO was told to raise is higher than with KL; what was meant is lower.
    assert free["final"]["final/score_ppo"] > accepted["final"]["final/score_ppo"]
    assert free["final"]["final/gold_ppo"] < accepted["final"]["final/gold_ppo"]


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(3))
def test_quickstart_stops_or_is_rejected_when_preferences_are_shuffled(
    quartet: Run, accepted: dict[str, Any], seed: int
) -> None:
    control = quartet(*shuffled(accepted, seed), refused="the reward model is too weak for PPO")
    assert not control or not control["verdict"]["accepted"]
    if seed == 0:
        assert not control  # its accuracy is below one half


@pytest.mark.campaign
def test_quickstart_goes_on_with_a_weak_reward_model_if_told_and_is_rejected(
    quartet: Run, accepted: dict[str, Any]
) -> None:
    further = ("reward_quality.stop_if_weak=false", "ppo.iterations=10")
    control = quartet(*shuffled(accepted, 0), *further)
    assert stage(control, "reward-quality")["metrics"]["reward_quality/weak"] == 1
    assert not control["verdict"]["accepted"]
    assert control["verdict"]["reasons"]


@pytest.mark.campaign
def test_both_servers_show_the_best_policy_on_their_first_page(
    quartet: Run, accepted: dict[str, Any], free: dict[str, Any], results: list[dict[str, Any]]
) -> None:
    """This module's runs are of all kinds: accepted, rejected, failed and cancelled."""
    quartet("evaluate.prompts=400", name="judged by fewer")
    good = [one for one in results if one["verdict"]["accepted"]]
    sure = "final/gold_controlled_gain_low"
    top = max((one["final"] for one in good), key=lambda final: float(final[sure]))
    best = {one["name"] for one in good if one["final"][sure] == top[sure]}
    with operated(accepted["home"]) as operation, browser("--window-size=1700,1000") as tab:
        cancelled = operation.start_pipeline("pretrain.steps=2300")
        operation.wait_for_log(cancelled, "pretrain: step")
        operation.cancel(cancelled)
        operation.wait(cancelled, "Cancelled")
        links = dict(
            re.findall(r"(Look at runs|Compare them) +(http\S+)", operation.log.read_text())
        )
        tab.log_in_to_mlflow(operation.mlflow_uri, operation.password)
        tab.open(links["Compare them"])
        tab.wait_for("without KL", *best, seconds=60)
        names, cells = tab.run(ROWS)
        assert names[0] in best
        assert cells[0]["tags.`quartet.verdict`"] == "accepted"
        shown_low = float(cells[0]["metrics.`final/gain_low`"])
        assert shown_low == pytest.approx(top["final/gold_gain_low"], abs=1e-4)
        tab.log_in_to_prefect(operation.api.removesuffix("/api"), operation.password)
        tab.open(links["Look at runs"])
        tab.wait_for("without KL", "Rejected", "Cancelled", *best, seconds=60)
        listed = str(tab.run("document.body.innerText")).rpartition("Page 1 of 1")[2]
        verdict = r"verdict: accepted, gold .*?, at equal length \S+ \[(\S+), "
        shown = re.findall(r"\n([^\n]+)\n(?:command-\S+\n)?" + verdict, listed)
        assert max(shown, key=lambda run: float(run[1]))[0] in best


def shuffled(accepted: dict[str, Any], seed: int) -> tuple[str, ...]:
    """Settings of a run whose preferences mean nothing, on a base model that is good."""
    base = accepted["home"] / "store" / "pretrain" / stage(accepted, "pretrain")["digest"] / "model"
    return ("data.world.shuffle_preferences=true", f"seed={seed}", f"base.source={base}")
