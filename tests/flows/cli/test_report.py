"""What a finished run shows: the result as JSON, and tables, verdict and commands on screen."""

import json
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli.report import print_result, result_json
from flows.pipeline import PipelineResult
from tasks.results.store import StageRef
from tasks.settings import Settings

FINAL = {
    "final/accepted": 1.0,
    "final/prompts": 16.0,
    "final/gold_sft": 0.731,
    "final/gold_ppo": 0.902,
    "final/gold_gain": 0.171,
    "final/gold_gain_low": 0.156,
    "final/gold_gain_high": 0.186,
    "final/gold_controlled_gain": 0.163,
    "final/gold_controlled_gain_low": 0.141,
    "final/gold_controlled_gain_high": 0.185,
    "final/distinct_2_sft": 0.5,
    "final/distinct_2_ppo": 0.4,
}

STAGES = [
    StageRef(
        stage="sft",
        digest="a" * 64,
        run_id="run-sft",
        reused=True,
        seconds=0.25,
        metrics={"sft/heldout_perplexity": 2.345},
    ),
    StageRef(
        stage="ppo",
        digest="c" * 64,
        run_id="run-ppo",
        seconds=40.0,
        metrics={"ppo/iterations": 20.0, "ppo/alarms/kl_high": 3.0, "ppo/alarms/length": 1.0},
    ),
    StageRef(stage="evaluate", digest="b" * 64, run_id="run-e", seconds=4.0, metrics=FINAL),
]


def result(
    accepted: bool = True, samples: int = 9, stages: list[StageRef] = STAGES, policy: str = "ppo"
) -> PipelineResult:
    return PipelineResult(
        pipeline_run_id="prefect-id",
        mlflow_run_id="parent-id",
        name="quickstart-1",
        stages=stages,
        final=FINAL,
        accepted=accepted,
        verdict="accepted" if accepted else "rejected",
        reasons=["The gain is [sure] and 2 < 3."],
        seconds=61.5,
        samples=[
            {"prompt": f"prompt {i}", "sft": f"sft {i}", policy: f"[bold]ppo {i}"}
            for i in range(samples)
        ],
    )


def printed(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    outcome: PipelineResult,
    **settings: str,
) -> str:
    monkeypatch.setenv("COLUMNS", "160")
    print_result(outcome, Settings(home=Path("/somewhere"), **settings))
    return capsys.readouterr().out


def test_result_json_has_the_shape_that_programs_read() -> None:
    plain = result_json(result())
    assert plain == json.loads(json.dumps(plain, allow_nan=False))
    assert plain == {
        "pipeline_run_id": "prefect-id",
        "mlflow_run_id": "parent-id",
        "name": "quickstart-1",
        "seconds": 61.5,
        "stages": [
            {
                "name": "sft",
                "digest": "a" * 64,
                "reused": True,
                "seconds": 0.25,
                "mlflow_run_id": "run-sft",
                "metrics": {"sft/heldout_perplexity": 2.345},
            },
            {
                "name": "ppo",
                "digest": "c" * 64,
                "reused": False,
                "seconds": 40.0,
                "mlflow_run_id": "run-ppo",
                "metrics": STAGES[1].metrics,
            },
            {
                "name": "evaluate",
                "digest": "b" * 64,
                "reused": False,
                "seconds": 4.0,
                "mlflow_run_id": "run-e",
                "metrics": FINAL,
            },
        ],
        "final": FINAL,
        "verdict": {"accepted": True, "reasons": ["The gain is [sure] and 2 < 3."]},
    }


def test_print_result_shows_stages_comparison_and_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = printed(capsys, monkeypatch, result())
    lines = text.splitlines()
    (sft,) = [line for line in lines if "held-out perplexity" in line]
    assert "reused" in sft
    assert "2.35" in sft or "2.34" in sft
    (new,) = [line for line in lines if "│ evaluate" in line]
    assert "new" in new
    (gold,) = [line for line in lines if "gold score" in line]
    assert "0.731" in gold
    assert "0.902" in gold
    assert "+0.171 [+0.156, +0.186]" in gold
    below = lines[lines.index(gold) + 1]
    assert "at equal length and ending" in below
    assert "+0.163 [+0.141, +0.185]" in below
    (distinct,) = [line for line in lines if "distinct-2" in line]
    assert "0.400" in distinct
    assert "Verdict: accepted" in text
    assert "The gain is [sure] and 2 < 3." in text  # no markup is read out of a reason


def test_print_result_says_rejected(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = printed(capsys, monkeypatch, result(accepted=False))
    assert "Verdict: rejected" in text
    assert "accepted" not in text


@pytest.mark.parametrize(("samples", "shown"), [(9, 3), (2, 2), (1, 1), (0, 0)])
def test_print_result_shows_three_samples_side_by_side_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, samples: int, shown: int
) -> None:
    text = printed(capsys, monkeypatch, result(samples=samples))
    rows = [line for line in text.splitlines() if "│ prompt " in line]
    assert len(rows) == shown
    for row in rows:
        assert "sft " in row
        assert "[bold]ppo " in row


def test_print_result_gives_the_command_that_opens_the_local_databases(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        text = printed(capsys, monkeypatch, result())
    assert "QUARTET_HOME=/somewhere " in text
    assert "quartet up" in text
    for address in ("http://127.0.0.1:5000", "http://127.0.0.1:4200"):
        assert address in text


def test_print_result_points_to_servers_that_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with temporary_settings({PREFECT_API_URL: "http://prefect.example:4200/api"}):
        text = printed(capsys, monkeypatch, result(), tracking_uri="http://mlflow.example:5000")
    assert "http://mlflow.example:5000" in text
    assert "http://prefect.example:4200" in text
    assert "quartet up" not in text


def test_print_result_names_the_alarms_of_ppo(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = printed(capsys, monkeypatch, result())
    assert "PPO raised alarms (kl_high in 3, length in 1 iterations); see its log." in text
    calm = result()
    healthy = calm.stages[1].model_copy(update={"metrics": {"ppo/iterations": 20.0}})
    calm = calm.model_copy(update={"stages": [calm.stages[0], healthy, calm.stages[2]]})
    assert "PPO raised no alarm." in printed(capsys, monkeypatch, calm)


def test_print_result_names_the_stage_that_aligned(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = STAGES[1].model_copy(update={"stage": "best-of-n", "metrics": {}})
    stages = [STAGES[0], policy, STAGES[2]]
    out = printed(capsys, monkeypatch, result(stages=stages, policy="best-of-n"))
    assert "SFT against Best of n on" in out
    assert "[bold]ppo 0" in out
    assert "PPO" not in out
