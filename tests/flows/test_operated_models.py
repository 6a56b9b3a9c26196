"""What is done with finished runs and their models, started as the UI does, on real servers."""

from typing import Any

import pytest

from flows.forms import StageForm
from flows.promotion import PromotionForm
from tasks.stages.evaluate_models import EvaluateModelsConfig
from tests.flows.operated import Operation

pytestmark = pytest.mark.slow

POLICY = "models:/quickstart-policy/1"
"""Rejected, for it was measured on too few prompts: so it is no challenger."""


def stage_form(tiny: tuple[str, ...]) -> dict[str, Any]:
    return StageForm.of("quickstart", tiny).model_dump(mode="json")


def test_compare_reports_on_two_runs(
    operation: Operation, finished: Any, tiny: tuple[str, ...]
) -> None:
    other = operation.start_pipeline(*tiny, "ppo.iterations=6")
    operation.wait(other, "Completed")
    names = [operation.run(run).name for run in (finished, other)]
    comparison = operation.start("compare/compare", runs=names)
    operation.wait(comparison, "Completed")
    (run,) = operation.mlflow.search_runs(
        [operation.mlflow.get_experiment_by_name("quartet").experiment_id],
        filter_string="tags.`quartet.kind` = 'comparison'",
    )
    listed = operation.mlflow.list_artifacts(run.info.run_id, "comparison")
    assert "comparison/report.html" in {file.path for file in listed}


def test_models_are_evaluated_side_by_side(
    operation: Operation, finished: Any, tiny: tuple[str, ...]
) -> None:
    config = EvaluateModelsConfig(
        prompts=8, samples_per_prompt=2, bootstrap_resamples=100, judges=["reward", "gold"]
    )
    run_id = operation.start(
        "evaluate-models/evaluate-models",
        models=["sft=quickstart-sft", f"ppo={POLICY}"],
        run=stage_form(tiny),
        judging=config.model_dump(mode="json"),
    )
    operation.wait(run_id, "Completed")
    metrics = operation.children(run_id)["evaluate-models"].data.metrics
    assert any("win_rate" in name for name in metrics), sorted(metrics)


def test_policy_that_gained_nothing_is_not_promoted(
    operation: Operation, finished: Any, tiny: tuple[str, ...]
) -> None:
    form = PromotionForm.of("quickstart", tiny).model_dump(mode="json")
    form["promotion"] |= {"prompts": 16, "samples_per_prompt": 2, "bootstrap_resamples": 100}
    run_id = operation.start("promote/promote", model=POLICY, run=form)
    operation.wait(run_id, "Completed")
    version = operation.mlflow.get_model_version("quickstart-policy", "1")
    assert version.tags["verdict"].startswith("not enough prompts")
    assert version.tags["quartet.promotion"] == "rejected"
    assert version.tags["quartet.promotion.reasons"]
    aliases = operation.mlflow.get_registered_model("quickstart-policy").aliases
    assert not aliases
