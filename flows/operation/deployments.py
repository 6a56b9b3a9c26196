"""The deployments, from which prefect.yaml is written: one source for both ways to deploy.

    python -m flows.operation.deployments > prefect.yaml

Each form is filled in from a preset. Flows are named by module path, so that a worker needs only
the installed package and no copy of the code. Schedules ship paused.
"""

import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import yaml

from flows.forms import PPOForm, RunForm, StageForm
from flows.parameters import list_presets
from flows.promotion import PromotionForm
from models.benchmarks.config import MultipleChoiceConfig
from tasks.judging.config import EvaluateModelsConfig

WORK_POOL = "quartet"
LATEST_POLICY = "models:/quickstart-policy@challenger"
HEADER = """\
# Written by `python -m flows.operation.deployments > prefect.yaml`; edit that module instead.
# Make the work pool first: prefect work-pool create --type process quartet
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A flow that can be started from the UI, the API or a schedule.

    Attributes:
        flow: Module path of the flow.
        name: Of the deployment.
        description: Markdown on its page.
        tags: To filter by.
        parameters: What its form is filled in with.
        schedules: In the form that prefect.yaml has.
    """

    flow: str
    name: str
    description: str
    tags: list[str]
    parameters: dict[str, Any]
    schedules: list[dict[str, Any]] = field(default_factory=list)


def _pipeline(preset: str, description: str, schedules: list[dict[str, Any]]) -> Deployment:
    return Deployment(
        flow="flows.pipeline.rlhf_pipeline",
        name=preset,
        description=(
            f"{description}\n\nPretraining, SFT, feedback, reward model, PPO and evaluation in one "
            "run. Finished stages are reused, interrupted ones go on where they were. The report "
            "is among the run's artifacts; the curves are in MLflow, linked from each stage."
        ),
        tags=["quartet", "pipeline", preset],
        parameters={"run": _filled_in(preset)},
        schedules=schedules,
    )


def _filled_in(preset: str) -> dict[str, Any]:
    """The form's values; which folder the data lies in, only its user knows."""
    values = RunForm.of(preset).model_dump(mode="json")
    values["data"]["folder"] = ""
    return values


def _stage(flow: str, name: str, description: str, form: StageForm, **inputs: str) -> Deployment:
    """A stage alone; a model is named as the form's field says."""
    return Deployment(
        flow=f"flows.stages.{flow}",
        name=name,
        description=description,
        tags=["quartet", "stage", name.split("-")[0]],
        parameters={**inputs, "run": form.model_dump(mode="json")},
    )


def _nightly_evaluation() -> Deployment:
    return Deployment(
        flow="flows.stages.evaluate_flow",
        name="nightly-evaluation",
        description=(
            "Evaluates the newest policy of the quickstart every night, with a seed of its own: "
            "other prompts and other luck. The schedule is paused: switch it on here."
        ),
        tags=["quartet", "stage", "evaluate", "schedule"],
        parameters={
            "policy": LATEST_POLICY,
            "run": StageForm.of("quickstart", ["evaluate.prompts=256"]).model_dump(mode="json"),
        },
        schedules=[_paused("nightly", cron="0 3 * * *", timezone="UTC")],
    )


def _paused(slug: str, **when: Any) -> dict[str, Any]:
    return {"slug": slug, "active": False, **when}


def _weekly_with_another_seed() -> dict[str, Any]:
    """A schedule with parameters of its own."""
    form = RunForm.of("quickstart").model_copy(update={"seed": 1})
    return _paused(
        "weekly",
        rrule="FREQ=WEEKLY;BYDAY=SU;BYHOUR=2;BYMINUTE=0;BYSECOND=0",
        timezone="UTC",
        parameters={"run": form.model_dump(mode="json")},
    )


def _deployments() -> list[Deployment]:
    presets = list_presets()
    schedules = {
        "quickstart": [
            _weekly_with_another_seed(),
            _paused("twice-a-day", interval=12 * 3600, timezone="UTC"),
        ]
    }
    quick = StageForm.of("quickstart")
    return [
        *(_pipeline(name, text, schedules.get(name, [])) for name, text in presets.items()),
        _stage("pretrain_flow", "pretrain", "Data, tokenizer and base model of a preset.", quick),
        _stage("sft_flow", "sft-again", "SFT from a base model that exists.", quick),
        _stage("reward_flow", "reward-again", "A reward model for an SFT model.", quick),
        _stage(
            "ppo_flow",
            "ppo-again",
            "PPO from an SFT model and a reward model that exist, with other parameters.",
            PPOForm.of("quickstart"),
        ),
        _stage(
            "evaluate_flow",
            "evaluate-policy",
            "A policy against its SFT model on held-out prompts, with the verdict.",
            quick,
        ),
        _nightly_evaluation(),
        *_about_models(),
    ]


def _about_models() -> list[Deployment]:
    """What is done with models and runs that exist."""
    quick = StageForm.of("quickstart").model_dump(mode="json")
    nothing = {"reward": "", "judge": "", "reference": ""}
    return [
        Deployment(
            flow="flows.compare.compare_flow",
            name="compare",
            description=(
                "One report on several pipeline runs: which is best, why, and how sure that is. "
                "Name each by its run name or MLflow id."
            ),
            tags=["quartet", "compare"],
            parameters={"runs": []},
        ),
        Deployment(
            flow="flows.evaluation.evaluate_models_flow",
            name="evaluate-models",
            description=(
                "Any models on any prompts, under a choice of judges: win rates with intervals, "
                "scores, KL, diversity, perplexity."
            ),
            tags=["quartet", "evaluate"],
            parameters={
                "models": ["models:/quickstart-sft@challenger", LATEST_POLICY],
                "run": quick,
                "judging": EvaluateModelsConfig().model_dump(mode="json"),
                "prompts_file": "",
                **nothing,
            },
        ),
        Deployment(
            flow="flows.benchmarks.benchmark_flow",
            name="benchmark",
            description="Accuracy of models on questions with known answers, in a file of yours.",
            tags=["quartet", "evaluate"],
            parameters={
                "models": [LATEST_POLICY],
                "run": quick,
                "asking": MultipleChoiceConfig().model_dump(mode="json"),
            },
        ),
        Deployment(
            flow="flows.promotion.promote_flow",
            name="promote",
            description=(
                "The challenger against the champion on held-out prompts; it takes the champion's "
                "place only through every gate, and if asked for, a person's approval."
            ),
            tags=["quartet", "promote"],
            parameters={
                "model": LATEST_POLICY,
                "run": PromotionForm.of("quickstart").model_dump(mode="json"),
            },
        ),
    ]


def prefect_yaml() -> str:
    """The text of prefect.yaml."""
    body = {
        "name": "quartet",
        "pull": [],
        "deployments": [
            {
                "name": one.name,
                "version": version("quartet-rlhf"),
                "description": one.description,
                "tags": one.tags,
                "entrypoint": one.flow,
                "parameters": one.parameters,
                "schedules": one.schedules,
                "work_pool": {"name": WORK_POOL},
            }
            for one in _deployments()
        ],
    }
    text: str = yaml.safe_dump(body, sort_keys=False, width=100, allow_unicode=True)
    return HEADER + text


if __name__ == "__main__":
    sys.stdout.write(prefect_yaml())
