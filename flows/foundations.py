"""Families of models, from n-grams to BART, trained and compared by the same stages.

One corpus, one recipe and one report: language models by bits per byte, fine-tuned models on tasks
about sentences, translation by BLEU, and which of the published claims held here. Every model is a
stage with its own run in MLflow; what was finished is reused, what was stopped resumes.
"""

import time
from collections.abc import Sequence
from typing import Any, Literal, Self

from prefect import flow
from prefect.runtime import flow_run
from pydantic import BaseModel, ConfigDict, Field

from flows.families import compare_families
from flows.fields import given_fields, validated
from flows.forms import RunName, RunNote, field_of
from flows.lifecycle import Conclusion, cancellable, concluding, name_run
from flows.planning.plan import perform
from models.config import Config, Seed
from models.families.config import ArchitectureConfig
from models.training.config import PretrainConfig
from tasks.data.foundations.config import FoundationsDataConfig
from tasks.results.store import StageRef
from tasks.run.reporting import run_logger
from tasks.stages.foundations.config import FoundationsParameters, TaskName

FOUNDATIONS = "foundations"


class FoundationsDataFields(Config):
    """The embedded captions, or your own files."""

    source: Literal["captions", "files"] = field_of(FoundationsDataConfig, "source")
    translation: str = field_of(FoundationsDataConfig, "translation")
    sentence_pairs: str = field_of(FoundationsDataConfig, "sentence_pairs")
    opinions: str = field_of(FoundationsDataConfig, "opinions")


class FoundationsPretrainFields(Config):
    """Pretraining of every family."""

    steps: int = field_of(PretrainConfig, "steps")


class FoundationsForm(Config):
    """Which parts are run, on which data. All other parameters have their defaults."""

    name: RunName = ""
    """Of the run, in Prefect and MLflow; empty = what differs from the defaults."""
    note: RunNote = ""
    """Shown with the run in MLflow and in `quartet status`."""
    seed: Seed
    """Random seed of the run."""
    time_limit_hours: float = Field(ge=0, le=8784, title="Time limit (hours)")
    """Then training saves a checkpoint and stops; a new run resumes it. 0 = no limit."""
    data: FoundationsDataFields
    pretrain: FoundationsPretrainFields = Field(title="Pretraining")
    tasks: list[TaskName] = field_of(FoundationsParameters, "tasks")
    translation: bool = field_of(FoundationsParameters, "translation")
    noise: bool = field_of(FoundationsParameters, "noise")
    in_context: bool = field_of(FoundationsParameters, "in_context")
    selection: bool = field_of(FoundationsParameters, "selection")
    further: list[str] = Field(title="Further settings")
    """path.to.field=value, such as model.width=256; they override the form."""

    @property
    def preset(self) -> str:
        """What the run is called after."""
        return FOUNDATIONS

    @classmethod
    def of(cls, further: Sequence[str] = ()) -> Self:
        """Fill a form in with the defaults."""
        values = FoundationsParameters().model_dump(mode="json")
        groups = {
            name: {one: values[name][one] for one in field.annotation.model_fields}
            for name, field in cls.model_fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, Config)
        }
        parts = {name: values[name] for name in cls.model_fields if name in values}
        own = {"time_limit_hours": 0.0, "further": list(further)}
        return cls.model_validate({**parts, **groups, **own})

    def called(self, name: str, note: str) -> Self:
        """The same form with a name and a note for the run.

        Raises:
            ParameterError: One of them is too long, or the name is more than one line.
        """
        return validated(type(self), {**self.model_dump(), "name": name, "note": note})

    def to_parameters(self) -> FoundationsParameters:
        """The parameters: the defaults, overridden by the form.

        Raises:
            ParameterError: A value is refused, or the values do not fit together.
        """
        values = FoundationsParameters().model_dump(mode="json")
        shown = self.model_dump(mode="json")
        given = {name: shown[name] for name in shown if name in values}
        further = given_fields(FoundationsParameters, self.further)
        ArchitectureConfig.make_room(values, further)
        for fields in (given, further):
            values = _merged(values, fields)
        return validated(FoundationsParameters, values)

    def check_deployment(self, filled_in: dict[str, Any]) -> None:
        """Every deployment has the same defaults."""


def _merged(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    inner = {
        name: _merged(values[name], value)
        for name, value in given.items()
        if isinstance(value, dict) and isinstance(values.get(name), dict)
    }
    return {**values, **given, **inner}


class FoundationsResult(BaseModel):
    """What a run came to.

    Attributes:
        models: Every model by its name in the report.
        stages: In order of execution; the report is the last.
    """

    model_config = ConfigDict(frozen=True)

    pipeline_run_id: str
    mlflow_run_id: str
    name: str
    models: dict[str, StageRef]
    stages: list[StageRef]
    seconds: float


def _conclude(result: FoundationsResult) -> Conclusion:
    counts = result.stages[-1].metrics
    held, failed, unsure = (
        int(counts.get(f"foundations/claims_{name}", 0)) for name in ("held", "not_held", "open")
    )
    return Conclusion(
        headline=f"{len(result.models)} models; {held} claims held, {failed} did not, "
        f"{unsure} are open",
        rejected=False,
    )


@flow(name=FOUNDATIONS, flow_run_name=name_run, persist_result=False)
@cancellable
@concluding(_conclude)
def foundations(run: FoundationsForm) -> FoundationsResult:
    """Train families of models on one corpus, and say which published claims hold.

    A run that was stopped or failed resumes when it is retried or started again with the same
    parameters; finished stages are reused.
    """
    started = time.monotonic()
    p = run.to_parameters()
    pipeline, models, stages = perform(
        run, p, lambda pipeline: (pipeline, *compare_families(p, pipeline))
    )
    if all(stage.reused for stage in stages):
        run_logger().info("nothing new: all %d stages were reused", len(stages))
    return FoundationsResult(
        pipeline_run_id=str(flow_run.id or ""),
        mlflow_run_id=pipeline.run_id,
        name=pipeline.name,
        models={one.role: one.ref for one in models},
        stages=stages,
        seconds=time.monotonic() - started,
    )
