"""The parameters of a pipeline run, composed of the stages' configs, and the presets.

Imports no torch, so that the command line answers at once and the run form opens fast.
"""

import copy
import functools
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, Literal, Self, TypeAlias

import yaml
from pydantic import Field, model_validator

from flows.fields import closest, flat, given_fields, set_field, shown_value, validated
from models.config import Config, Seed
from models.errors import ParameterError
from models.families.config import ArchitectureConfig
from models.language.config import BaseModelConfig, SamplingConfig, TokenizerConfig
from models.ppo.config import PPOConfig
from models.reward.config import FeedbackConfig, RewardQualityConfig, RewardStageConfig
from models.training.config import BestOfNConfig, DPOStageConfig, PretrainConfig, SFTStageConfig
from tasks.data.config import DataConfig
from tasks.judging.config import EvaluationConfig
from tasks.stages.foundations.config import FoundationsParameters


class PipelineParameters(Config):
    """Everything that shapes the result of a pipeline run; each stage gets only its slice."""

    preset: str = "custom"
    """Name of the preset that these parameters started from; a label only."""
    seed: Seed = 0
    """Random seed of the run."""
    data: DataConfig = Field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    model: ArchitectureConfig = Field(default_factory=ArchitectureConfig, title="Architecture")
    base: BaseModelConfig = Field(default_factory=BaseModelConfig, title="Base model")
    pretrain: PretrainConfig = Field(default_factory=PretrainConfig, title="Pretraining")
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    sft: SFTStageConfig = Field(default_factory=SFTStageConfig)
    feedback: FeedbackConfig = Field(default_factory=FeedbackConfig)
    reward: RewardStageConfig = Field(default_factory=RewardStageConfig, title="Reward model")
    reward_quality: RewardQualityConfig = Field(
        default_factory=RewardQualityConfig, title="Reward model's quality"
    )
    align: Literal["ppo", "dpo", "best_of_n", "best_of_n_ppo"] = Field("ppo", title="Alignment")
    """dpo: on the preferences; best_of_n: SFT on what the reward model likes best, or then PPO."""
    ppo: PPOConfig = Field(default_factory=PPOConfig)
    dpo: DPOStageConfig = Field(default_factory=DPOStageConfig)
    best_of_n: BestOfNConfig = Field(default_factory=BestOfNConfig, title="Best of n")
    evaluate: EvaluationConfig = Field(default_factory=EvaluationConfig, title="Evaluation")

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        if self.feedback.annotator == "simulated" and self.data.source != "world":
            raise ValueError(
                "feedback.annotator is simulated but data.source is "
                f"{self.data.source}; the simulated annotator knows only the embedded world: "
                "set feedback.annotator=people, endpoint or none"
            )
        if self.needs_corpus and self.data.source == "sources" and not self.data.corpus:
            raise ValueError(
                f"ppo.ptx_coef is {self.ppo.ptx_coef} but data.corpus is empty; PPO's "
                "pretraining mix needs a corpus: name one, or set ppo.ptx_coef=0"
                if self.base.source
                else "there is neither base.source nor data.corpus; a base model needs one of "
                "them: name an existing model, or a corpus to pretrain on"
            )
        longest = self.sampling.max_completion_tokens
        if self.ppo.overlong_tokens > longest:
            raise ValueError(
                f"ppo.overlong_tokens {self.ppo.overlong_tokens} exceeds "
                f"sampling.max_completion_tokens {longest}; choose at most {longest} or raise "
                "sampling.max_completion_tokens"
            )
        if self.base.source:
            return self
        self.model.refuse_unaligned()
        context = self.model.context
        if self.pretrain.block_tokens > context:
            raise ValueError(
                f"pretrain.block_tokens {self.pretrain.block_tokens} exceeds model.context "
                f"{context}; choose at most {context} or raise model.context"
            )
        if self.sampling.max_completion_tokens >= context:
            raise ValueError(
                f"sampling.max_completion_tokens {self.sampling.max_completion_tokens} leaves no "
                f"room for a prompt in model.context {context}; choose at most {context - 1} or "
                "raise model.context"
            )
        return self

    @property
    def needs_corpus(self) -> bool:
        """Whether a corpus is needed: to pretrain a base model, or for PPO's pretraining mix."""
        return not self.base.source or ("ppo" in self.align and self.ppo.ptx_coef > 0)


Parameters: TypeAlias = PipelineParameters | FoundationsParameters
"""Of a flow's run."""


def list_presets() -> dict[str, str]:
    """The description of each preset by name."""
    return {name: str(values["description"]) for name, values in _presets().items()}


def load_preset(
    name: str, settings: Iterable[str] = (), fields: Mapping[str, Any] | None = None
) -> PipelineParameters:
    """Build the parameters of a preset with some fields changed.

    Args:
        name: One of `list_presets()`.
        settings: Each ``path.to.field=value``, the value in YAML; they override `fields`.
        fields: Plain values by name, groups nested.

    Raises:
        ParameterError: Unknown preset or field, or a value that a field refuses.
    """
    presets = _presets()
    if name not in presets:
        raise ParameterError(
            f"unknown preset {shown_value(name)}{closest(name, presets)}; presets are: "
            f"{', '.join(presets)}"
        )
    values = copy.deepcopy(presets[name]) | {"preset": name}
    del values["description"]
    for field, value in (fields or {}).items():
        values[field] = {**values.get(field, {}), **value} if isinstance(value, dict) else value
    settings = list(settings)
    ArchitectureConfig.make_room(values, given_fields(PipelineParameters, settings))
    for setting in settings:
        set_field(PipelineParameters, values, setting)
    return validated(PipelineParameters, values)


def changed_from_preset(parameters: Config) -> dict[str, Any]:
    """What differs from the preset, by dotted name: {"seed": 1, "ppo.kl_coef": 0.16}.

    In the order of the form. The seed counts, the preset's name does not; a group that is off is
    one value, None.

    Args:
        parameters: Of a pipeline; those of a custom preset, and of other flows, are compared with
            the defaults.
    """
    preset = getattr(parameters, "preset", "")
    pipeline = isinstance(parameters, PipelineParameters) and preset in list_presets()
    before = load_preset(preset) if pipeline else type(parameters)()
    plain, now = flat(before.model_dump(mode="json")), flat(parameters.model_dump(mode="json"))
    plain["preset"] = preset
    return {n: value for n, value in now.items() if n not in plain or plain[n] != value}


@functools.cache
def _presets() -> dict[str, dict[str, Any]]:
    """What the files say, by name."""
    folder = resources.files("flows") / "presets"
    texts = {
        file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    }
    return {name: yaml.safe_load(texts[name]) for name in sorted(texts)}
