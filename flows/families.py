"""What `foundations` compares: which models are trained, on what, in which order.

Each function is a part of the report. Models that several parts need are trained once: the stages
know each other by their digests.
"""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from models.config import Config
from models.families.config import ArchitectureConfig, kind_of
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.stages.foundations.conclude import Model, conclude
from tasks.stages.foundations.config import FoundationsParameters
from tasks.stages.foundations.data import prepare_foundations
from tasks.stages.pretrain import pretrain
from tasks.stages.tokenizer import train_tokenizer

C = TypeVar("C", bound=Config)

LANGUAGE_MODELS = ("feedforward", "rnn", "lstm", "gpt2", "llama", "mixtral", "bert", "bart")


@dataclass(slots=True, kw_only=True)
class Comparison:
    """A run as it grows.

    Attributes:
        data: The texts, translations and tasks.
        tokenizers: By family; bert has its own.
        models: Rows of the report.
        stages: All, in order of execution.
    """

    p: FoundationsParameters
    pipeline: PipelineRun
    data: StageRef
    tokenizers: dict[str, StageRef]
    models: list[Model] = field(default_factory=list)
    stages: list[StageRef] = field(default_factory=list)
    bases: dict[str, StageRef] = field(default_factory=dict)

    def add(
        self, part: str, name: str, ref: StageRef, *, task: str = "", variant: str = ""
    ) -> None:
        """Give a model its row in the report."""
        self.models.append(Model(part=part, name=name, ref=ref, task=task, variant=variant))
        self.stages.append(ref)

    def named(self, model: str) -> PipelineRun:
        """The run as a model's stage knows it: its run in MLflow is called after the model."""
        return self.pipeline.model_copy(
            update={
                "name": f"{self.pipeline.name} {model}",
                "preset": f"{self.pipeline.preset}-{model}",
            }
        )

    def pretrain(
        self, family: str, *, name: str = "", data: StageRef | None = None, **changes: Any
    ) -> StageRef:
        """Pretrain a family, with some of the recipe changed."""
        if kind_of(family) != "causal":
            changes = {"batch_size": self.p.text_batch, **changes}
        return pretrain(
            _changed(self.p.pretrain, changes),
            self.architecture(family),
            pipeline=self.named(name or family),
            data=data or self.data,
            tokenizer=self.tokenizer(family),
        )

    def architecture(self, family: str) -> ArchitectureConfig:
        """The sizes of a run in a family."""
        return _changed(self.p.model, {"family": family})

    def tokenizer(self, family: str) -> StageRef:
        """The tokenizer of a family."""
        return self.tokenizers.get(family, self.tokenizers[""])


def compare_families(
    p: FoundationsParameters, pipeline: PipelineRun
) -> tuple[list[Model], list[StageRef]]:
    """Run, or while planning foretell, every model and the report."""
    data = prepare_foundations(p.data, pipeline=pipeline)
    tokenizers = {
        family: train_tokenizer(
            _changed(p.tokenizer, {"kind": kind}),
            context=p.model.context,
            pipeline=pipeline,
            data=data,
        )
        for family, kind in (("", p.tokenizer.kind), ("bert", "wordpiece"))
    }
    run = Comparison(p=p, pipeline=pipeline, data=data, tokenizers=tokenizers)
    run.stages += [data, *tokenizers.values()]
    _compare_language_models(run)
    report = conclude(run.models, pipeline=pipeline)
    return run.models, [*run.stages, report]


def _compare_language_models(run: Comparison) -> None:
    for family in LANGUAGE_MODELS:
        run.bases[family] = run.pretrain(family)
        run.add("language", family, run.bases[family])


def _changed(config: C, changes: dict[str, Any]) -> C:
    """The config with some fields set otherwise, checked."""
    return type(config).model_validate({**config.model_dump(mode="json"), **changes})
