"""The parameters of a pipeline run, composed of the stages' configs, and the presets.

Imports no torch, so that the command line answers at once and the run form opens fast.
"""

import copy
import difflib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from models.config import Config, Seed, make_title
from models.errors import ParameterError
from models.families.config import ArchitectureConfig
from models.language.config import BaseModelConfig, SamplingConfig, TokenizerConfig
from models.ppo.config import PPOConfig
from models.reward.config import FeedbackConfig, RewardQualityConfig, RewardStageConfig
from models.training.config import BestOfNConfig, DPOStageConfig, PretrainConfig, SFTStageConfig
from tasks.data.config import DataConfig
from tasks.judging.config import EvaluationConfig

Model = TypeVar("Model", bound=BaseModel)

LONGEST_SHOWN = 200


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
            f"unknown preset {_shown(name)}{_closest(name, presets)}; presets are: "
            f"{', '.join(presets)}"
        )
    values = copy.deepcopy(presets[name]) | {"preset": name}
    del values["description"]
    for field, value in (fields or {}).items():
        values[field] = {**values.get(field, {}), **value} if isinstance(value, dict) else value
    settings = list(settings)
    ArchitectureConfig.make_room(values, given_fields(settings))
    for setting in settings:
        _set(values, setting)
    return validated(PipelineParameters, values)


def given_fields(settings: Iterable[str]) -> dict[str, Any]:
    """Plain values, groups nested, of ``path.to.field=value``; ParameterError as `load_preset`."""
    values: dict[str, Any] = {}
    for setting in settings:
        _set(values, setting)
    return values


def changed_from_preset(parameters: PipelineParameters) -> dict[str, Any]:
    """What differs from the preset, by dotted name: {"seed": 1, "ppo.kl_coef": 0.16}.

    In the order of the form. The seed counts, the preset's name does not; a group that is off is
    one value, None.

    Args:
        parameters: A custom preset is compared with the defaults.
    """
    known = parameters.preset in list_presets()
    before = load_preset(parameters.preset) if known else PipelineParameters()
    plain, now = _flat(before.model_dump(mode="json")), _flat(parameters.model_dump(mode="json"))
    plain["preset"] = parameters.preset
    return {n: value for n, value in now.items() if n not in plain or plain[n] != value}


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetRow:
    """One field of a preset, as people read it."""

    field: str
    value: str
    meaning: str
    differs: bool


def preset_rows(name: str) -> list[PresetRow]:
    """Every field of a preset; those that differ from the defaults come first.

    Raises:
        ParameterError: There is no such preset.
    """
    values = _flat(load_preset(name).model_dump(mode="json"))
    plain = _flat(PipelineParameters().model_dump(mode="json"))
    rows = [
        PresetRow(
            field=field,
            value="" if value is None else str(value),
            meaning=_meaning(field),
            differs=plain.get(field) != value,
        )
        for field, value in values.items()
        if field != "preset"
    ]
    return sorted(rows, key=lambda row: not row.differs)


def _meaning(path: str) -> str:
    """Title and first sentence of a field's description."""
    model: type[BaseModel] | None = PipelineParameters
    *groups, last = path.split(".")
    for name in groups:
        model = _group(model, name) if model is not None else None
    if model is None or last not in model.model_fields:
        return ""
    field = model.model_fields[last]
    title = field.title or make_title(last, field)
    return f"{title}: {(field.description or '').partition('. ')[0]}".rstrip(": ")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return flat


def validated(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Validate values; all of pydantic's errors make one line.

    Raises:
        ParameterError: Each field, its value and what is wanted.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ParameterError("; ".join(_explain(one) for one in error.errors())) from error


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


def _set(values: dict[str, Any], setting: str) -> None:
    """Set one ``path=value`` in nested plain values, checking that the field exists."""
    path, equals, text = setting.partition("=")
    if not equals:
        raise ParameterError(
            f"--set got {_shown(setting)}, wanted path.to.field=value, such as ppo.kl_coef=0.1"
        )
    if path.strip() == "preset":
        raise ParameterError("preset cannot be set; give it as the argument of `quartet run`")
    *groups, field = path.strip().split(".")
    model: type[BaseModel] = PipelineParameters
    for depth, name in enumerate([*groups, field]):
        if name not in model.model_fields:
            where = ".".join(groups[:depth]) or "the top level"
            raise ParameterError(
                f"unknown field {_shown(path)}{_closest(name, model.model_fields)}; fields of "
                f"{where} are: {', '.join(model.model_fields)}"
            )
        group = _group(model, name)
        if group is None and depth < len(groups):
            raise ParameterError(
                f"{path!r} goes into a field that has no fields of its own; drop what follows it"
            )
        if group is not None and depth == len(groups):
            fields = ", ".join(f"{path}.{name}" for name in group.model_fields)
            raise ParameterError(f"{path!r} is a group, not a field; set one of: {fields}")
        if group is not None:
            model = group
            values = values.setdefault(name, {})
    is_text = model.model_fields[field].annotation is str  # 2024 may be a folder's name
    try:
        values[field] = text if is_text else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise ParameterError(
            f"{path}: the value {_shown(text)} cannot be read ({why}); wanted a number, a word or "
            "a list in YAML"
        ) from error


def _group(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model of a field that is a group; None for a plain value."""
    annotation = model.model_fields[name].annotation
    for inner in (annotation, *get_args(annotation)):
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return None


def _explain(error: Mapping[str, Any]) -> str:
    where = ".".join(map(str, error["loc"]))
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":  # ours: it names everything itself
        return f"{where}: {message}" if where else message
    return f"{where}: got {_shown(error['input'])}, {message[0].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of thousands of digits
        return "a number of more than 4,300 digits"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _closest(name: str, possible: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(possible), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
