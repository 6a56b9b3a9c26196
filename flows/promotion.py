"""The flow that promotes: challenger against champion, gates, optional approval, alias.

Prompts, champion and judge follow from the challenger's lineage; the preset only gives the
sampling.
"""

from collections.abc import Sequence
from functools import partial

from prefect import flow
from pydantic import Field

from flows.fields import given_fields, validated
from flows.forms import StageForm, field_of
from flows.lifecycle import (
    Conclusion,
    ask_before_promotion,
    cancellable,
    conclude_decision,
    concluding,
    name_run,
    opened,
)
from flows.parameters import PipelineParameters
from flows.waiting import waiting_for_people
from models.config import Config
from models.errors import ParameterError
from tasks.judging.config import EvaluationConfig
from tasks.judging.judges import Decider
from tasks.promotion.challenger import find_challenger
from tasks.promotion.promotion import Promotion, promote
from tasks.results.store import StageRef
from tasks.run.reporting import run_logger
from tasks.stages.prepare import prepare


class PromotionFields(Config):
    """Samples, judge and bounds that a challenger must meet."""

    prompts: int = field_of(EvaluationConfig, "prompts")
    people_prompts: int = field_of(EvaluationConfig, "people_prompts")
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
    """Gates of a promotion, and approval by a person."""

    approval: bool = Field(title="Ask before promotion")
    """Pause before promotion until somebody approves."""
    promotion: PromotionFields = Field(title="Gates")

    @classmethod
    def of(cls, preset: str, further: Sequence[str] = ()) -> "PromotionForm":
        """Fill the form in; the gates do not depend on the preset."""
        values = StageForm.of(preset, further).model_dump(mode="json")
        gates = EvaluationConfig().model_dump(
            mode="json", include=set(PromotionFields.model_fields)
        )
        return cls.model_validate({**values, "approval": False, "promotion": gates})

    def gates(self) -> EvaluationConfig:
        """What a challenger must meet; further settings of `evaluate` override the form's fields.

        Raises:
            ParameterError: A value is refused, or a promotion has no such setting.
        """
        further = given_fields(PipelineParameters, self.further).get("evaluate", {})
        if strange := sorted(further.keys() - PromotionFields.model_fields.keys() - {"endpoint"}):
            raise ParameterError(
                f"evaluate.{strange[0]} is no setting of a promotion, which asks the reward model "
                "and the judge that decides; leave it out, or set "
                f"{', '.join(f'evaluate.{one}' for one in PromotionFields.model_fields)}"
            )
        endpoint = self.to_parameters().evaluate.endpoint.model_dump()
        return validated(
            EvaluationConfig, {**self.promotion.model_dump(), **further, "endpoint": endpoint}
        )

    @classmethod
    def _groups(cls) -> dict[str, list[str]]:
        """No group belongs to the pipeline's parameters."""
        return {}


def _conclude(promotion: Promotion) -> Conclusion:
    evidence = StageRef(stage="promotion", digest=promotion.evidence)
    gates = conclude_decision(evidence) if promotion.evidence else None
    if gates is None or (promotion.result == "rejected" and not gates.rejected):  # by a person
        headline = f"{promotion.result}: {promotion.reasons[0]}"
    else:
        headline = gates.headline if gates.rejected else f"{promotion.result}: {gates.headline}"
    return Conclusion(headline=headline, rejected=promotion.result == "rejected")


@flow(name="promote", flow_run_name=name_run, persist_result=False)
@cancellable
@concluding(_conclude)
def promote_flow(model: str, run: PromotionForm, judge_model: str = "") -> Promotion:
    """Make a challenger the champion if it beats the current one and passes every gate.

    Args:
        model: NAME of a policy for its best accepted version, models:/NAME@ALIAS or
            models:/NAME/NUMBER.
        run: Preset and gates.
        judge_model: Held-out reward model; empty = the one trained with the reward model.
    """
    p, gates = run.to_parameters(), run.gates()
    challenger, why = find_challenger(model)
    run_logger().info(why or f"the challenger is {challenger.uri}")
    with opened(run, p) as pipeline:
        return waiting_for_people(
            lambda: promote(
                challenger.uri,
                gates,
                p.sampling,
                pipeline=pipeline,
                data=lambda: prepare(p.data, pipeline=pipeline),
                judge_model=judge_model,
                ask=partial(ask_before_promotion, pipeline) if run.approval else None,
            )
        )
