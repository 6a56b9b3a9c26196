"""The flow that measures models on questions with known answers: your own, or published benchmarks.

No judge is needed. A name may be given as LABEL=NAME; metrics and reports use the label.
"""

import re
from pathlib import Path

from prefect import flow

from flows.forms import StageForm
from flows.lifecycle import cancellable, name_run
from flows.names import label_models
from flows.planning.plan import perform
from models.benchmarks.config import MultipleChoiceConfig
from models.config import CountOrZero
from models.errors import ParameterError
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.stages.lm_eval import lm_eval_benchmark, lm_eval_version
from tasks.stages.multiple_choice import multiple_choice
from tasks.stages.resolve import find_model


@flow(name="benchmark", flow_run_name=name_run, persist_result=False)
@cancellable
def benchmark_flow(
    models: list[str],
    run: StageForm,
    asking: MultipleChoiceConfig,
    file: str = "",
    examples: str = "",
    lm_eval_tasks: list[str] | None = None,
    lm_eval_folder: str = "",
    lm_eval_rows: CountOrZero = 0,
) -> list[StageRef]:
    """Measure models on multiple-choice or cloze questions, on published benchmarks, or on both.

    Args:
        models: Each stage/DIGEST, a registered model, a folder or a hub id; LABEL=NAME sets its
            name in the report.
        run: Seed, and preset, which only names the run.
        asking: Number of examples, plain or chat prompts, delimiter.
        file: Your questions, one JSON object per line: question, choices and label, or context and
            completion; optionally subject.
        examples: File with the examples to show, if any are; empty = other questions of the file.
        lm_eval_tasks: Tasks of lm-evaluation-harness; needs the extra lm-eval.
        lm_eval_folder: Folder with more task definitions for the harness.
        lm_eval_rows: Rows of each of its tasks; 0 = all.
    """
    if not file and not lm_eval_tasks:
        raise ParameterError(
            "nothing to measure: give a file of questions, names of lm-eval tasks, or both"
        )
    labels = label_models(models, lambda label: re.sub(r"[^\w.-]+", "-", label, flags=re.ASCII))
    if lm_eval_tasks:
        lm_eval_version()  # fails before anything is measured
    p = run.to_parameters()

    def stages(pipeline: PipelineRun) -> list[StageRef]:
        refs = []
        found = {
            label: find_model(name, role="base", pipeline=pipeline)
            for label, name in labels.items()
        }
        if file:
            refs.append(
                multiple_choice(
                    asking,
                    questions=Path(file),
                    examples=Path(examples) if examples and asking.shots else None,
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

    return perform(run, p, stages)
