"""What the run forms show: the fields people change, filled in from a preset.

A form's field *is* the stage's own: title, description, unit and bounds come from the stage's
config. What a form does not show comes from the preset; `further` reaches every other field. So a
form stays short, a wrong value is refused by the API before the run, and what only the whole set
of parameters can tell is refused in the first second of the run.

No field has a default: a default would be the stage's and not the preset's, and a form sent with
half of its fields would mean another run than the one it was filled in for.

Imports no torch.
"""

import copy
from typing import Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt
from pydantic_core import PydanticUndefined

from flows.parameters import PipelineParameters, load_preset
from models.config import Config
from models.errors import ParameterError
from models.language.config import ArchitectureConfig, BaseModelConfig, SamplingConfig
from models.ppo.config import PPOConfig
from models.reward.config import RewardStageConfig
from models.training.config import PretrainConfig, SFTStageConfig
from tasks.data.config import DataConfig
from tasks.judging.config import EvaluationConfig

PresetName = Literal["quickstart", "reviews", "hh-rlhf"]


def field_of(config: type[Config], name: str) -> Any:
    """The field of a stage's config, to stand in a form; without its default, see above."""
    field = copy.copy(config.model_fields[name])
    field.default = PydanticUndefined
    return field


class DataFields(Config):
    """Where the data lies."""

    folder: str = field_of(DataConfig, "folder")


class BaseModelFields(Config):
    """An existing base model in place of pretraining."""

    source: str = field_of(BaseModelConfig, "source")


class ArchitectureFields(Config):
    """The network, where it is pretrained from scratch."""

    layers: int = field_of(ArchitectureConfig, "layers")
    width: int = field_of(ArchitectureConfig, "width")
    context: int = field_of(ArchitectureConfig, "context")


class PretrainFields(Config):
    """Pretraining of the base model."""

    steps: int = field_of(PretrainConfig, "steps")
    learning_rate: float = field_of(PretrainConfig, "learning_rate")


class SFTFields(Config):
    """Supervised fine-tuning on demonstrations."""

    epochs: float = field_of(SFTStageConfig, "epochs")
    learning_rate: float = field_of(SFTStageConfig, "learning_rate")


class RewardFields(Config):
    """The reward model, learned from preferences."""

    epochs: float = field_of(RewardStageConfig, "epochs")
    learning_rate: float = field_of(RewardStageConfig, "learning_rate")
    judge_share: float = field_of(RewardStageConfig, "judge_share")


class PPOFields(Config):
    """PPO against the reward model."""

    iterations: int = field_of(PPOConfig, "iterations")
    rollouts_per_iteration: int = field_of(PPOConfig, "rollouts_per_iteration")
    ppo_epochs: int = field_of(PPOConfig, "ppo_epochs")
    kl_coef: float = field_of(PPOConfig, "kl_coef")
    actor_learning_rate: float = field_of(PPOConfig, "actor_learning_rate")


class SamplingFields(Config):
    """How completions are drawn, everywhere the same."""

    temperature: float = field_of(SamplingConfig, "temperature")
    max_completion_tokens: int = field_of(SamplingConfig, "max_completion_tokens")


class EvaluationFields(Config):
    """The comparison with the SFT model."""

    prompts: int = field_of(EvaluationConfig, "prompts")


class StageForm(Config):
    """What every form has: a preset, a seed, and a way to every field that is not shown."""

    preset: PresetName
    """Gives every parameter that is not in this form."""
    seed: NonNegativeInt
    """Random seed of the run."""
    time_limit_hours: NonNegativeFloat = Field(title="Time limit (hours)")
    """Then training saves a checkpoint and stops; a new run resumes it. 0 = no limit."""
    further: list[str] = Field(title="Further settings")
    """path.to.field=value, such as ppo.gae_lambda=0.9; they override the form."""

    @classmethod
    def of(cls, preset: str, further: tuple[str, ...] | list[str] = ()) -> Self:
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
        return cls.model_validate({**own, **asks, **groups})

    def to_parameters(self) -> PipelineParameters:
        """The parameters of the whole chain: the preset's, with what the form says.

        Raises:
            ParameterError: A value is refused, or the parts do not fit together.
        """
        shown = self.model_dump(mode="json")
        groups = {group: shown[group] for group in self._groups()}
        return load_preset(self.preset, self.further, {"seed": self.seed, **groups})

    def check_deployment(self, filled_in: dict[str, Any]) -> None:
        """Refuse a preset under which the form's other fields mean something else.

        Args:
            filled_in: What the deployment's form was filled in with.

        Raises:
            ParameterError: The preset was changed in a form filled in from another.
        """
        preset = filled_in.get("preset", self.preset)
        if preset != self.preset and self._groups():
            raise ParameterError(
                f"the form was filled in with the values of preset {preset!r}, got preset "
                f"{self.preset!r}, whose values differ; start the deployment of {self.preset!r}"
            )

    @classmethod
    def _groups(cls) -> dict[str, list[str]]:
        """Names of the fields of each group that this form shows."""
        return {
            name: list(field.annotation.model_fields)
            for name, field in cls.model_fields.items()
            if isinstance(field.annotation, type) and issubclass(field.annotation, Config)
        }


class PPOForm(StageForm):
    """PPO again, from models that exist."""

    ppo: PPOFields
    sampling: SamplingFields


class RunForm(StageForm):
    """The whole chain."""

    approval: bool = Field(title="Ask before PPO")
    """Pause with the reward model's report until somebody approves."""
    data: DataFields
    base: BaseModelFields = Field(title="Base model")
    model: ArchitectureFields = Field(title="Architecture")
    pretrain: PretrainFields = Field(title="Pretraining")
    sft: SFTFields
    reward: RewardFields = Field(title="Reward model")
    sampling: SamplingFields
    ppo: PPOFields
    evaluate: EvaluationFields = Field(title="Evaluation")
