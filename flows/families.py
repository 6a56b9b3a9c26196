"""What `foundations` compares: which models are trained, on what, in which order.

Each function is a part of the report. Models that several parts need are trained once: the stages
know each other by their digests.
"""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from models.config import Config
from models.families.config import ArchitectureConfig, kind_of
from models.objectives.config import DenoisingConfig
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.stages.foundations.conclude import Model, conclude
from tasks.stages.foundations.config import FoundationsParameters
from tasks.stages.foundations.data import prepare_foundations
from tasks.stages.foundations.in_context import learn_by_prompts
from tasks.stages.foundations.ngram import measure_ngram
from tasks.stages.foundations.select import select
from tasks.stages.foundations.translate import translate
from tasks.stages.foundations.understand import understand
from tasks.stages.pretrain import pretrain
from tasks.stages.tokenizer import train_tokenizer

C = TypeVar("C", bound=Config)

LANGUAGE_MODELS = ("feedforward", "rnn", "lstm", "gpt2", "llama", "mixtral", "bert", "bart")
TRUNKS = ("gpt2", "bert", "bart")
TRANSLATORS = ("rnn_encoder_decoder", "rnnsearch", "transformer")
NOISES = {
    "masking": {"token_masking": 0.3},
    "deletion": {"token_deletion": 0.3},
    "infilling": {"text_infilling": 0.3},
    "permutation": {"sentence_permutation": 1.0},
    "rotation": {"document_rotation": 1.0},
}
"""Each of BART's noises alone, as strong as in Lewis et al. 2020, section 4."""
NO_NOISE = dict.fromkeys(DenoisingConfig.model_fields, 0.0) | {"span_tokens": 3.0}


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
            update={"part": model, "preset": f"{self.pipeline.preset}-{model}"}
        )

    def pretrain(
        self, family: str, *, name: str = "", data: StageRef | None = None, **changes: Any
    ) -> StageRef:
        """Pretrain a family, with some of the recipe changed."""
        if kind_of(family) != "causal":
            rows = self.p.pairs if kind_of(family) == "masked" else self.p.documents
            changes = {"batch_size": rows, **changes}
        return pretrain(
            _changed(self.p.pretrain, changes),
            self.architecture(family),
            pipeline=self.named(name or family),
            data=data or self.data,
            tokenizer=self.tokenizer(family),
        )

    def architecture(self, family: str) -> ArchitectureConfig:
        """The sizes of a run in a family."""
        sizes = self.p.translator if family in TRANSLATORS else self.p.model
        return _changed(sizes, {"family": family})

    def tokenizer(self, family: str) -> StageRef:
        """The tokenizer of a family."""
        return self.tokenizers.get(family, self.tokenizers[""])

    def understand(
        self,
        name: str,
        base: StageRef,
        task: str,
        *,
        variant: str = "",
        part: str = "understanding",
        **changes: Any,
    ) -> None:
        """Fine-tune a model on a task."""
        label = "-".join(word for word in (name, task, variant) if word)
        ref = understand(
            _changed(self.p.understand, changes),
            task=task,
            pipeline=self.named(label),
            data=self.data,
            base=base,
        )
        self.add(part, name, ref, task=task, variant=variant)


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
    if p.selection:
        _compare_selection(run)
    _compare_understanding(run)
    if p.in_context:
        _compare_prompts(run)
    if p.translation:
        _compare_translation(run)
    if p.noise:
        _compare_noises(run)
    report = conclude(run.models, pipeline=pipeline)
    return run.models, [*run.stages, report]


def _compare_language_models(run: Comparison) -> None:
    ngram = measure_ngram(
        run.p.ngram, pipeline=run.named("ngram"), data=run.data, tokenizer=run.tokenizer("")
    )
    run.add("language", "ngram", ngram)
    for family in LANGUAGE_MODELS:
        run.bases[family] = run.pretrain(family)
        run.add("language", family, run.bases[family])


def _compare_selection(run: Comparison) -> None:
    """The same language model on all of the corpus, on what is left of it, and without weights."""
    selected = select(run.p.select, pipeline=run.pipeline, data=run.data)
    run.add("selection", "select", selected)
    run.models.append(Model(part="selection", name="gpt2", ref=run.bases["gpt2"]))
    ref = run.pretrain("gpt2", name="gpt2-selected", data=selected)
    run.add("selection", "gpt2", ref, variant="selected")
    unmixed = run.pretrain("gpt2", name="gpt2-unmixed", mixture="")
    run.add("selection", "gpt2", unmixed, variant="unmixed")


def _compare_understanding(run: Comparison) -> None:
    for task in run.p.tasks:
        for trunk in TRUNKS:
            run.understand(trunk, run.bases[trunk], task)
            run.understand(trunk, run.bases[trunk], task, variant="random", initial="random")
        if task != "similarity":
            run.understand(
                "gpt2", run.bases["gpt2"], task, variant="auxiliary", auxiliary_weight=AUXILIARY
            )


def _compare_prompts(run: Comparison) -> None:
    for task in run.p.tasks:
        if task == "similarity":
            continue
        ref = learn_by_prompts(
            run.p.prompts, task=task, pipeline=run.named(f"in-context-{task}"), data=run.data,
            base=run.bases["gpt2"],
        )  # fmt: skip
        run.add("in_context", "in-context", ref, task=task)


def _compare_translation(run: Comparison) -> None:
    for family in TRANSLATORS:
        ref = translate(
            run.p.translate, run.architecture(family), pipeline=run.named(family), data=run.data,
            tokenizer=run.tokenizer(family),
        )  # fmt: skip
        run.add("translation", family, ref)
    for variant in ("", "random"):
        ref = translate(
            _changed(run.p.translate, {"initial": variant or "pretrained"}),
            run.architecture("bart"),
            pipeline=run.named(f"bart-translation{'-random' if variant else ''}"),
            data=run.data,
            tokenizer=run.tokenizer("bart"),
            base=run.bases["bart"],
        )
        run.add("translation", "bart", ref, task="translation", variant=variant)


def _compare_noises(run: Comparison) -> None:
    for noise, shares in NOISES.items():
        name = f"bart-{noise}"
        steps = max(1, run.p.pretrain.steps // 3)
        base = run.pretrain("bart", name=name, steps=steps, denoising=NO_NOISE | shares)
        run.add("noise", name, base)
        run.understand(name, base, "entailment", part="noise")


AUXILIARY = 0.5
"""Weight of the language-modelling loss. Source: Radford et al. 2018, section 4.1."""


def _changed(config: C, changes: dict[str, Any]) -> C:
    """The config with some fields set otherwise, checked."""
    return type(config).model_validate({**config.model_dump(mode="json"), **changes})
