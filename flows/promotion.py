"""Promotion as a flow: the challenger against the champion, the gates, perhaps a person, the alias.

Which prompts, which opponent and which judge follow from the challenger's own lineage; the preset
only says how completions are drawn.
"""

from collections.abc import Callable

from prefect import flow
from pydantic import Field

from flows.approval import ask_before_promotion
from flows.forms import StageForm, field_of
from flows.lifecycle import ends_when_told, name_run, opened
from models.config import Config
from tasks.judging.config import EvaluationConfig
from tasks.judging.judges import Decider
from tasks.promotion.promotion import Answer, Promotion, promote
from tasks.registry.versions import ModelVersion
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.stages.prepare import prepare


class PromotionFields(Config):
    """How much is measured, who judges, and where the gates stand."""

    prompts: int = field_of(EvaluationConfig, "prompts")
    samples_per_prompt: int = field_of(EvaluationConfig, "samples_per_prompt")
    bootstrap_resamples: int = field_of(EvaluationConfig, "bootstrap_resamples")
    judge: Decider = field_of(EvaluationConfig, "judge")
    max_kl_to_reference: float = field_of(EvaluationConfig, "max_kl_to_reference")
    min_length_ratio: float = field_of(EvaluationConfig, "min_length_ratio")
    max_length_ratio: float = field_of(EvaluationConfig, "max_length_ratio")
    min_eos_ratio: float = field_of(EvaluationConfig, "min_eos_ratio")
    min_distinct_2_ratio: float = field_of(EvaluationConfig, "min_distinct_2_ratio")
    min_matched_distinct_2_ratio: float = field_of(EvaluationConfig, "min_matched_distinct_2_ratio")
    min_matched_completions: int = field_of(EvaluationConfig, "min_matched_completions")


class PromotionForm(StageForm):
    """A promotion: how it is measured, and whether somebody is asked."""

    approval: bool = Field(title="Ask before promotion")
    """Pause before promotion until somebody approves."""
    promotion: PromotionFields = Field(title="Gates")

    @classmethod
    def of(cls, preset: str, further: tuple[str, ...] | list[str] = ()) -> "PromotionForm":
        """Fill the form in: the gates are the same whatever the preset.

        Raises:
            ParameterError: There is no such preset.
        """
        values = StageForm.of(preset, further).model_dump(mode="json")
        gates = EvaluationConfig().model_dump(
            mode="json", include=set(PromotionFields.model_fields)
        )
        return cls.model_validate({**values, "approval": False, "promotion": gates})

    @classmethod
    def _groups(cls) -> dict[str, list[str]]:
        """No group is a part of the pipeline's parameters."""
        return {}


@flow(name="promote", flow_run_name=name_run, persist_result=False)
@ends_when_told
def promote_flow(model: str, run: PromotionForm, judge_model: str = "") -> Promotion:
    """Make a challenger the champion if it beats the one there is and passes every gate.

    Args:
        model: The challenger: models:/NAME@ALIAS or models:/NAME/NUMBER.
        run: Preset and gates.
        judge_model: The held-out judge; empty takes the one trained beside the reward model.
    """
    p = run.to_parameters()
    with opened(run, p) as pipeline:
        return promote(
            model,
            EvaluationConfig.model_validate(run.promotion.model_dump()),
            p.sampling,
            pipeline=pipeline,
            data=lambda: prepare(p.data, pipeline=pipeline),
            judge_model=judge_model,
            ask=_asking(pipeline) if run.approval else None,
        )


def _asking(pipeline: PipelineRun) -> Callable[[ModelVersion, StageRef], Answer]:
    def ask(challenger: ModelVersion, evidence: StageRef) -> Answer:
        return ask_before_promotion(challenger.uri, evidence, pipeline)

    return ask
