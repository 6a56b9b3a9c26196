"""The flow that puts models to questions with known answers: one's own, and published benchmarks.

Neither needs a judge. Models are named as everywhere; `label=` before a name is what metrics and
reports call it.
"""

import re
from pathlib import Path

from prefect import flow

from flows.evaluation import label_models
from flows.forms import StageForm
from flows.lifecycle import ends_when_told, name_run, opened
from models.benchmarks.config import MultipleChoiceConfig
from models.errors import ParameterError
from tasks.results.store import StageRef
from tasks.stages.lm_eval import lm_eval_benchmark, lm_eval_version
from tasks.stages.multiple_choice import multiple_choice
from tasks.stages.resolve import find_model


@flow(name="benchmark", flow_run_name=name_run, persist_result=False)
@ends_when_told
def benchmark_flow(
    models: list[str],
    run: StageForm,
    asking: MultipleChoiceConfig,
    file: str = "",
    examples: str = "",
    lm_eval_tasks: list[str] | None = None,
    lm_eval_folder: str = "",
    lm_eval_rows: int = 0,
) -> list[StageRef]:
    """Measure models on multiple choice or cloze questions, or on published benchmarks, or both.

    Args:
        models: Each as stage/DIGEST, models:/NAME@ALIAS, a folder or a hub id; `label=` before it
            gives it a name in the report.
        run: Preset, for its name on the run, and seed.
        asking: Examples shown before each question, plain or chat prompts, delimiter.
        file: Your questions, one JSON object a line: question, choices and label, or context and
            completion; perhaps subject.
        examples: File of the same kind that the shown examples come from; empty takes other
            questions of the file.
        lm_eval_tasks: Names of lm-evaluation-harness's tasks; needs the extra lm-eval.
        lm_eval_folder: Folder with more task definitions of the harness's kind.
        lm_eval_rows: Rows of each of its tasks; 0 takes all.
    """
    if not file and not lm_eval_tasks:
        raise ParameterError(
            "nothing to measure: give a file of questions, names of lm-eval tasks, or both"
        )
    labels = label_models(models, lambda label: re.sub(r"[^\w.-]+", "-", label, flags=re.ASCII))
    if lm_eval_tasks:
        lm_eval_version()  # says what is missing before anything is measured
    p = run.to_parameters()
    refs = []
    with opened(run, p) as pipeline:
        found = {
            label: find_model(name, role="base", pipeline=pipeline)
            for label, name in labels.items()
        }
        if file:
            refs.append(
                multiple_choice(
                    asking,
                    questions=Path(file),
                    examples=Path(examples) if examples else None,
                    models=found,
                    pipeline=pipeline,
                )
            )
        for label, model in found.items() if lm_eval_tasks else ():
            refs.append(
                lm_eval_benchmark(
                    lm_eval_tasks or [],
                    label=label,
                    model=model,
                    pipeline=pipeline,
                    shots=asking.shots or None,
                    chat=asking.prompt == "chat",
                    folder=Path(lm_eval_folder) if lm_eval_folder else None,
                    limit=lm_eval_rows,
                )
            )
    return refs
