"""A plan foretells exactly what a run reuses and computes, and leaves nothing behind."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.cli.plan import print_plan
from flows.forms import RunForm
from flows.pipeline import PipelineResult, rlhf_pipeline
from flows.planning.plan import Plan, plan_of
from flows.planning.rates import PROCESS_GIB, START_SECONDS
from tasks.results.store import Manifest


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def plan(first_home: Any, first_run: PipelineResult, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plan the tiny pipeline in the home folder of the first run, with some fields set."""

    def make(*settings: str) -> Plan:
        first_home.set(monkeypatch)
        before = files(first_home.path)
        made = plan_of(rlhf_pipeline, RunForm.of("quickstart", [*first_home.TINY, *settings]))
        assert files(first_home.path) == before
        return made

    return make


def new(plan: Plan) -> list[str]:
    return [one.spec.name for one in plan.stages if not one.reused]


def test_plan_names_what_the_same_run_reuses(
    first_run: PipelineResult, plan: Callable[..., Plan]
) -> None:
    made = plan()
    assert [(one.spec.name, one.digest) for one in made.stages] == sorted(
        ((ref.stage, ref.digest) for ref in first_run.stages),
        key=lambda pair: [one.spec.name for one in made.stages].index(pair[0]),
    )
    assert new(made) == []
    assert made.summary() == "nothing to compute: all 9 stages are reused"


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("ppo.kl_coef=0.3", ["ppo", "evaluate"]),
        ("evaluate.bootstrap_resamples=101", ["evaluate"]),
        ("feedback.preferences=61", ["feedback", "reward", "reward-quality", "ppo", "evaluate"]),
        ("reward_quality.bins=9", ["reward-quality"]),
    ],
)
def test_plan_names_what_a_changed_run_computes(
    plan: Callable[..., Plan], setting: str, wanted: list[str]
) -> None:
    made = plan(setting)
    assert new(made) == wanted
    assert f"{9 - len(wanted)} stages reused, {len(wanted)} new" in made.summary()
    assert [row[1] for row in made.rows()].count("new") == len(wanted)


def test_plan_tells_what_a_reused_stage_found(
    first_run: PipelineResult, plan: Callable[..., Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    (finding,) = plan("ppo.kl_coef=0.3").findings
    assert "of the SFT model's completions are cut at 12 tokens" in finding
    assert f"**{finding}**" in plan("ppo.kl_coef=0.3").markdown()
    print_plan(plan("ppo.kl_coef=0.3"))
    assert finding in " ".join(capsys.readouterr().out.split())
    assert plan("reward_quality.bins=9").findings == []  # not measured yet


def test_plan_takes_minutes_from_the_runs_of_the_home(
    first_home: Any, first_run: PipelineResult, plan: Callable[..., Plan]
) -> None:
    """The same work takes as long as before; twice the work takes longer, but not twice."""
    (ref,) = (one for one in first_run.stages if one.stage == "ppo")
    before = Manifest.read(first_home.folder(ref))
    os.utime(first_home.folder(ref))  # other tests run pipelines in this home too: be the newest
    same = plan("ppo.alarms.max_kl=49").costs[-2]
    assert same.seconds == pytest.approx(max(before.seconds, START_SECONDS + 0.1))
    networks = same.networks / 2**30
    assert same.peak_gib == pytest.approx(PROCESS_GIB + networks)
    assert before.peak_gib > 0.1
    twice = plan("ppo.iterations=8").costs[-2]
    assert (same.seconds or 0) < (twice.seconds or 0) < 2 * (same.seconds or 0)
    assert (twice.flops or 0) == pytest.approx(2 * (same.flops or 0))


def test_plan_of_an_empty_home_computes_all_and_makes_nothing(
    home: Path, first_home: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plan_of(rlhf_pipeline, RunForm.of("quickstart", first_home.TINY))
    assert len(new(made)) == len(made.stages) == 9
    assert not (home / "store").exists()
    assert made.seconds > sum(one.seconds or 0 for one in made.costs) > 0
    assert made.peak_gib > 0.1
    assert made.markdown().count("| actor") == 1
    print_plan(made)
    shown = capsys.readouterr().out
    assert "9 new" in shown
    assert "Networks in memory" in shown
