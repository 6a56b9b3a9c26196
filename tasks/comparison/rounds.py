"""Rounds of a loop side by side: labels used, what the policy gained, whether it was promoted.

Every round's policy was compared with the same SFT model, so the gains of rounds can be compared as
far as their judges can: a gold judge and people are the same in all rounds, a held-out reward model
learned from the labels of its round.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from models.evaluation.result import read_outcome, read_result
from models.rows import read_json, write_json
from models.statistics.intervals import Interval
from tasks.labelling.rounds import FEEDBACK
from tasks.reports.rounds import ROUNDS, rounds_page
from tasks.results.curves import read_history
from tasks.results.store import StageRef, Store
from tasks.run.exchange import published_folder
from tasks.run.pipeline import PipelineRun
from tasks.run.planning import planning
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace
from tasks.settings import load_settings
from tasks.tracking.client import Tracker
from tasks.tracking.outages import tolerated
from tasks.tracking.recording import log_missing

Promoted: TypeAlias = Literal["promoted", "rejected", ""]
"""How the promotion of a round's policy ended; empty where it was not put up for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A finished round.

    Attributes:
        number: From 1.
        sampled_by: Number of the round whose policy was asked; 0 for the SFT model.
        preferences: The stage with all training pairs so far.
    """

    number: int
    sampled_by: int
    preferences: StageRef
    policy: StageRef
    evaluation: StageRef
    promoted: Promoted = ""


@stage_task("rounds")
def record_rounds(rounds: Sequence[Round], *, pipeline: PipelineRun) -> StageRef:
    """Publish the rounds so far, with their page, and show their curves on the pipeline's run."""

    def learn(work: Workspace) -> Mapping[str, float]:
        rows = [_row(one, work.inputs) for one in rounds]
        for row in rows:
            work.log(_metrics(row), row["round"])
        write_json(work.out / ROUNDS, rows)
        return {"improve/rounds": float(len(rows)), **_metrics(rows[-1])}

    spec = StageSpec(
        name="rounds",
        module=__name__,
        parameters={
            "rounds": {
                "sampled_by": [one.sampled_by for one in rounds],
                "promoted": [one.promoted for one in rounds],
            }
        },
        inputs={f"evaluation_{one.number}": one.evaluation for one in rounds}
        | {f"preferences_{one.number}": one.preferences for one in rounds},
        view=rounds_page,
    )
    ref = run_stage(spec, pipeline, learn)
    _show_curves(ref, pipeline)
    return ref


def _row(one: Round, inputs: Mapping[str, Path]) -> dict[str, Any]:
    folder = inputs[f"evaluation_{one.number}"]
    result, outcome = read_result(folder), read_outcome(folder)
    assert result.decided is not None
    model, verdict = result.decided
    feedback = read_json(inputs[f"preferences_{one.number}"] / FEEDBACK)
    return {
        "round": one.number,
        "labels": feedback["feedback/annotated"],
        "sampled_by": one.sampled_by,
        "judge": verdict.judge,
        "accepted": outcome.accepted,
        "verdict": outcome.word,
        "headline": outcome.headline,
        "reasons": outcome.reasons,
        "promoted": one.promoted,
        "win_rate": result.win_rates[verdict.judge].of(model, result.baseline),
        "gain": Interval(
            mean=outcome.numbers.get("gain", math.nan),
            low=outcome.numbers.get("gain_low", math.nan),
            high=outcome.numbers.get("gain_high", math.nan),
        ),
        "kl": outcome.numbers.get("kl", math.nan),
    }


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    numbers = {
        **row["gain"].metrics("improve/judged_gain"),
        **row["win_rate"].metrics("improve/win_rate"),
        "improve/kl": row["kl"],
        "improve/labels": row["labels"],
        "improve/accepted": float(row["accepted"]),
        "improve/promoted": float(row["promoted"] == "promoted"),
    }
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _show_curves(ref: StageRef, pipeline: PipelineRun) -> None:
    """Log the curves over rounds on the pipeline's own run; to do it again changes nothing."""
    if planning() is not None:
        return
    settings = load_settings()
    curves = read_history(Store(settings.store).folder(ref.stage, ref.digest))
    with tolerated("the curves over rounds"):
        log_missing(Tracker(settings), pipeline.run_id, curves)


def read_rounds(ref: StageRef) -> list[dict[str, Any]]:
    """What `record_rounds` published, a row a round."""
    rows: list[dict[str, Any]] = read_json(published_folder(ref) / ROUNDS)
    return rows
