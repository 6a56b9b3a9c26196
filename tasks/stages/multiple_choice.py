"""Multiple choice: one or more models on the user's own questions, side by side.

A cached stage: the same models, questions and settings are never measured twice. All models get
the same examples in the same order, so their differences to the first one are paired by question.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from models.benchmarks.config import MultipleChoiceConfig
from models.benchmarks.questions import MOST_BYTES
from models.errors import DataError, ParameterError
from models.files import digest_file, user_path
from models.randomness import derive_seed
from models.rows import write_json, write_rows
from tasks.reports.benchmarks import multiple_choice_page
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace

if TYPE_CHECKING:
    from models.benchmarks.multiple_choice import Answers
    from models.statistics.intervals import Interval

LABEL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
TAKEN = ("questions", "examples")
RESAMPLES = 2000


@stage_task("multiple-choice")
def multiple_choice(
    config: MultipleChoiceConfig,
    *,
    questions: Path,
    models: Mapping[str, StageRef],
    pipeline: PipelineRun,
    examples: Path | None = None,
) -> StageRef:
    """Publish how well models answer a file of questions.

    Args:
        questions: JSON lines: question, choices, label; or context, completion.
        models: Published causal models by their label in reports and metrics.
        examples: JSON lines that few-shot examples come from; the questions themselves if None.

    Returns:
        The stage, with metrics `multiple_choice/<label>/accuracy` and so on; its folder has
        results.json and answers.jsonl, one row per model and question.

    Raises:
        DataError: A file cannot be read, or a row is not as it should be.
        ParameterError: No models, or labels that cannot name metrics.
    """
    _check_labels(models)

    def learn(work: Workspace) -> Mapping[str, float]:
        measured = _measure(work, config, questions, examples, list(models), pipeline.seed)
        if external != _digests(questions, examples):
            raise DataError(
                "the file of questions or of examples changed before it was read; start again "
                "when it is complete"
            )
        return measured

    external = _digests(questions, examples)
    spec = StageSpec(
        name="multiple-choice",
        module=__name__,
        # Differences are to the first model, and inputs have no order.
        parameters={
            "multiple_choice": config.model_dump(mode="json") | {"baseline": next(iter(models))}
        },
        inputs=models,
        external=external,
        view=multiple_choice_page,
    )
    return run_stage(spec, pipeline, learn)


def _check_labels(models: Mapping[str, StageRef]) -> None:
    if not models:
        raise ParameterError("no model was given, wanted at least one; name one: sft/DIGEST")
    for label in models:
        if not label or not set(label) <= LABEL_CHARACTERS or label in TAKEN:
            raise ParameterError(
                f"model label {label!r} cannot name metrics; wanted letters, digits, _ . - and "
                f"none of {', '.join(TAKEN)}"
            )


def _digests(questions: Path, examples: Path | None) -> dict[str, str]:
    files = {"questions": questions} | ({} if examples is None else {"examples": examples})
    return {
        role: digest_file(user_path(path), most_bytes=MOST_BYTES) for role, path in files.items()
    }


def _measure(
    work: Workspace, config: MultipleChoiceConfig, questions: Path, examples: Path | None,
    labels: list[str], seed: int,
) -> dict[str, float]:  # fmt: skip
    # Imports torch.
    from models.benchmarks.answering import answer_each
    from models.benchmarks.questions import read_questions

    asked = read_questions(questions.expanduser())
    shown = None if examples is None else read_questions(examples.expanduser())
    found = work.learn(
        answer_each,
        models={label: work.inputs[label] / "model" for label in labels},
        questions=asked,
        config=config,
        seed=derive_seed(seed, "multiple-choice"),
        device=work.device,
        shown=shown,
    )
    gains = _gains(found, derive_seed(seed, "multiple-choice.bootstrap"))
    models = {
        label: {
            "measures": answers.shares(),
            "gains": gains[label],
            "subjects": answers.by_subject(),
            "chance": answers.chance,
            "perplexity": answers.perplexity,
            "cut_contexts": answers.cut,
        }
        for label, answers in found.items()
    }
    results = {"questions": asked.name, "rows": len(asked.rows), "models": models}
    write_json(work.out / "results.json", results)
    write_rows(
        work.out / "answers.jsonl",
        (
            {"model": label, "line": row.line, "label": row.label, "chosen": chosen}
            | {name: one[index] for name, one in answers.correct.items()}
            | {"logprobs": logprobs}
            for label, answers in found.items()
            for index, (row, chosen, logprobs) in enumerate(
                zip(asked.rows, answers.chosen, answers.logprobs, strict=True)
            )
        ),
    )
    metrics: dict[str, float] = {}
    for label, answers in found.items():
        numbers = answers.metrics()
        for name, gain in gains[label].items():
            numbers |= gain.metrics(f"{name}_gain")
        metrics |= {f"multiple_choice/{label}/{name}": value for name, value in numbers.items()}
    return metrics


def _gains(found: "Mapping[str, Answers]", seed: int) -> "dict[str, dict[str, Interval]]":
    import numpy as np

    from models.statistics.intervals import bootstrap_interval

    first, *others = found
    gains: dict[str, dict[str, Interval]] = {first: {}}
    for label in others:
        gains[label] = {}
        for name, right in found[label].correct.items():
            difference = np.array(right, float) - np.array(found[first].correct[name], float)
            gains[label][name] = bootstrap_interval(difference, RESAMPLES, seed)
    return gains
