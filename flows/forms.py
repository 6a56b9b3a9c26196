"""The run forms: the fields that people change most, filled in from a preset.

A form's field is the field of the stage's config, with its title, description and bounds. All
other fields come from the preset or from `further`. A value out of bounds is refused by the API
before the run; parameters that do not fit together are refused at the start of the run.

No parameter has a default: it would be the stage's default, not the preset's, and a form sent with
missing fields would start a different run. Name and note change no result.

Imports no torch.
"""

import copy
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import Field, StringConstraints
from pydantic_core import PydanticUndefined

from flows.fields import validated
from flows.parameters import PipelineParameters, load_preset
from models.config import Config, Seed
from models.errors import ParameterError
from models.families.config import ArchitectureConfig
from models.language.config import BaseModelConfig, SamplingConfig
from models.ppo.config import PPOConfig
from models.reward.config import FeedbackConfig, RewardStageConfig
from models.training.config import PretrainConfig, SFTStageConfig
from tasks.data.config import DataConfig
from tasks.judging.config import EvaluationConfig

PresetName = Literal["quickstart", "reviews", "reviews-pretrained", "hh-rlhf"]

RunName = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")
]
RunNote = Annotated[str, StringConstraints(max_length=4000)]


def field_of(config: type[Config], name: str) -> Any:
    """The field of a config, for a form: without its default."""
    field = copy.copy(config.model_fields[name])
    field.default = PydanticUndefined
    return field


class FlowForm(Protocol):
    """What a flow needs of its form, whatever its fields."""

    @property
    def preset(self) -> str: ...
    @property
    def note(self) -> str: ...
    @property
    def time_limit_hours(self) -> float: ...
    def check_deployment(self, filled_in: dict[str, Any]) -> None: ...
    def to_parameters(self) -> Any: ...


class DataFields(Config):
    """Your own data."""

    folder: str = field_of(DataConfig, "folder")


class BaseModelFields(Config):
    """An existing base model instead of pretraining."""

    source: str = field_of(BaseModelConfig, "source")


class ArchitectureFields(Config):
    """Size of the network, if it is pretrained from scratch."""

    layers: int = field_of(ArchitectureConfig, "layers")
    width: int = field_of(ArchitectureConfig, "width")


class PretrainFields(Config):
    """Pretraining of the base model."""

    steps: int = field_of(PretrainConfig, "steps")


class SFTFields(Config):
    """Supervised fine-tuning on demonstrations."""

    epochs: float = field_of(SFTStageConfig, "epochs")
    learning_rate: float = field_of(SFTStageConfig, "learning_rate")


class FeedbackFields(Config):
    """Who compares the SFT model's completions."""

    annotator: Literal["none", "simulated", "people", "endpoint"] = field_of(
        FeedbackConfig, "annotator"
    )


class RewardFields(Config):
    """Training of the reward model on preferences."""

    epochs: float = field_of(RewardStageConfig, "epochs")
    learning_rate: float = field_of(RewardStageConfig, "learning_rate")
    judge_share: float = field_of(RewardStageConfig, "judge_share")


class PPOFields(Config):
    """Optimisation of the policy against the reward model."""

    iterations: int = field_of(PPOConfig, "iterations")
    rollouts_per_iteration: int = field_of(PPOConfig, "rollouts_per_iteration")
    ppo_epochs: int = field_of(PPOConfig, "ppo_epochs")
    kl_coef: float = field_of(PPOConfig, "kl_coef")
    actor_learning_rate: float = field_of(PPOConfig, "actor_learning_rate")


class SamplingFields(Config):
    """Sampling of completions, in all stages."""

    temperature: float = field_of(SamplingConfig, "temperature")
    max_completion_tokens: int = field_of(SamplingConfig, "max_completion_tokens")


class EvaluationFields(Config):
    """Comparison of the policy with the SFT model."""

    prompts: int = field_of(EvaluationConfig, "prompts")


class StageForm(Config):
    """Preset, seed and further settings of one stage."""

    preset: PresetName
    """Gives every parameter that is not in this form."""
    name: RunName = ""
    """Of the run, in Prefect and MLflow; empty = what differs from the preset."""
    note: RunNote = ""
    """Shown with the run in MLflow and in `quartet status`."""
    seed: Seed
    """Random seed of the run."""
    time_limit_hours: float = Field(ge=0, le=8784, title="Time limit (hours)")
    """Then training saves a checkpoint and stops; a new run resumes it. 0 = no limit."""
    further: list[str] = Field(title="Further settings")
    """path.to.field=value, such as ppo.gae_lambda=0.9; they override the form."""

    @classmethod
    def of(cls, preset: str, further: Sequence[str] = ()) -> Self:
        """Fill a form in with a preset's values.

        Raises:
            ParameterError: There is no such preset.
        """
        values = load_preset(preset).model_dump(mode="json")
        groups = {
            group: {name: values[group][name] for name in fields}
            for group, fields in cls._groups().items()
        }
        own = {"preset": preset, "seed": 0, "time_limit_hours": 0.0, "further": list(further)}
        asks = {"approval": False} if "approval" in cls.model_fields else {}
        plain = {name: values[name] for name in cls._plain()}
        return cls.model_validate({**own, **asks, **plain, **groups})

    def called(self, name: str, note: str) -> Self:
        """The same form with a name and a note for the run.

        Raises:
            ParameterError: One of them is too long, or the name is more than one line.
        """
        return validated(type(self), {**self.model_dump(), "name": name, "note": note})

    def to_parameters(self) -> PipelineParameters:
        """The parameters of the pipeline: the preset's, overridden by the form.

        Raises:
            ParameterError: A value is refused, or the values do not fit together.
        """
        shown = self.model_dump(mode="json")
        given = {name: shown[name] for name in ("seed", *self._plain(), *self._groups())}
        return load_preset(self.preset, self.further, given)

    def check_deployment(self, filled_in: dict[str, Any]) -> None:
        """Refuse a preset other than the one that filled in the deployment's form.

        Raises:
            ParameterError: The preset was changed in the form.
        """
        preset = filled_in.get("preset", self.preset)
        if preset != self.preset and self._groups():
            raise ParameterError(
                f"the form was filled in with the values of preset {preset!r}, got preset "
                f"{self.preset!r}, whose values differ; start the deployment of {self.preset!r}"
            )

    @classmethod
    def _plain(cls) -> list[str]:
        """The fields that are parameters of the pipeline themselves, in no group."""
        return [name for name in ("align",) if name in cls.model_fields]

    @classmethod
    def _groups(cls) -> dict[str, list[str]]:
        """The fields of each group in this form."""
        return {
            name: list(field.annotation.model_fields)
            for name, field in cls.model_fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, Config)
        }


class PPOForm(StageForm):
    """PPO from an existing SFT model and reward model."""

    ppo: PPOFields
    sampling: SamplingFields


class RunForm(StageForm):
    """Parameters of the pipeline. All others come from the preset."""

    approval: bool = Field(title="Ask before PPO")
    """Pause with the reward model's report until somebody approves."""
    data: DataFields
    base: BaseModelFields = Field(title="Base model")
    model: ArchitectureFields = Field(title="Architecture")
    pretrain: PretrainFields = Field(title="Pretraining")
    sft: SFTFields
    feedback: FeedbackFields
    reward: RewardFields = Field(title="Reward model")
    sampling: SamplingFields
    align: Literal["ppo", "dpo", "best_of_n", "best_of_n_ppo"] = field_of(
        PipelineParameters, "align"
    )
    ppo: PPOFields
    evaluate: EvaluationFields = Field(title="Evaluation")
