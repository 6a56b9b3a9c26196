"""Translate: a sequence-to-sequence model learns pairs and is measured on held-out ones."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from models.families.config import ArchitectureConfig
from models.randomness import derive_seed
from models.rows import write_json, write_rows
from models.translation.config import TranslationConfig
from tasks.reports.foundations.translation import translation_page
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace


@stage_task("translate")
def translate(
    config: TranslationConfig,
    architecture: ArchitectureConfig,
    *,
    pipeline: PipelineRun,
    data: StageRef,
    tokenizer: StageRef,
    base: StageRef | None = None,
) -> StageRef:
    """Publish a model, its translations of the held-out sources, and their BLEU and ROUGE.

    Args:
        architecture: Of a network from scratch; with a base model its own is taken.
        base: A sequence-to-sequence model, with its own tokenizer.
    """
    starts = {"tokenizer": tokenizer} if base is None else {"base": base}
    network = {"model": architecture.model_dump(mode="json")} if base is None else {}

    def learn(work: Workspace) -> Mapping[str, float]:
        # Imports torch.
        from models.translation.samples import translate_rows
        from models.translation.scores import score_translations
        from models.translation.training import train_translator

        folder, out = work.inputs["pairs"], work.out / "model"
        own_tokenizer = base is None
        learned = work.learn(
            train_translator,
            start=work.inputs["tokenizer"] / "tokenizer"
            if own_tokenizer
            else work.inputs["base"] / "model",
            pairs=folder / "translation_train.jsonl",
            heldout=folder / "translation_heldout.jsonl",
            architecture=architecture if own_tokenizer else None,
            config=config,
            run=work.training_run(out, pipeline.seed),
        )
        made = translate_rows(
            model=out,
            heldout=folder / "translation_heldout.jsonl",
            config=config,
            seed=derive_seed(pipeline.seed, "translate.samples"),
            device=work.device,
        )
        scores = score_translations(
            made.rows, seed=derive_seed(pipeline.seed, "translate.bootstrap")
        )
        write_rows(work.out / "samples.jsonl", made.rows)
        if made.alignments:
            write_rows(work.out / "alignments.jsonl", map(asdict, made.alignments))
        write_json(work.out / "results.json", scores)
        return {**learned, **scores.metrics("translate")}

    parameters: dict[str, Any] = {"translate": config.model_dump(mode="json"), **network}
    spec = StageSpec(
        name="translate",
        module=__name__,
        parameters=parameters,
        inputs={"pairs": data, **starts},
        total_steps=config.steps,
        trains=True,
        view=translation_page,
    )
    return run_stage(spec, pipeline, learn)
