"""Multiple choice: one or more models on the user's own questions, side by side.

A cached stage: the same models, questions and settings are never measured twice. All models get
the same examples in the same order, so the report can give paired differences to the first one.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.benchmarks.config import MultipleChoiceConfig
from models.errors import DataError, ParameterError
from models.randomness import derive_seed
from models.rows import write_rows
from tasks.results.digests import file_digest
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.reporting import show_markdown, table_cell
from tasks.run.spec import StageSpec
from tasks.run.stage import Workspace, run_stage
from tasks.run.stage_task import stage_task
from tasks.settings import load_settings
from tasks.tracking.client import Tracker, tolerated

if TYPE_CHECKING:
    from models.benchmarks.multiple_choice import Answers

LABEL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
TAKEN = ("questions", "examples")
RESAMPLES = 2000
NAMES = {
    "accuracy": "accuracy",
    "accuracy_norm": "accuracy by likelihood a byte",
    "exact_match": "whole completion",
    "last_word": "last word",
}
"""How the report calls the measures."""


@stage_task("multiple-choice")
def multiple_choice(
    config: MultipleChoiceConfig,
    *,
    questions: Path,
    models: Mapping[str, StageRef],
    pipeline: PipelineRun,
    examples: Path | None = None,
) -> StageRef:
    """Publish how well models answer a file of questions, and show it on the run's pages.

    Args:
        config: Examples shown, plain or chat prompts, delimiter.
        questions: JSON lines: question, choices, label; or context, completion.
        models: Published causal models by the label that reports and metrics give them.
        pipeline: The run.
        examples: JSON lines that few-shot examples come from; the questions themselves if None.

    Returns:
        The stage, with metrics `multiple_choice/<label>/accuracy` and so on; its folder has
        report.md, results.json and answers.jsonl, one row a model and question.

    Raises:
        DataError: A file cannot be read, or a row is not as it should be.
        ParameterError: No models, or labels that cannot name metrics.
    """
    check_labels(models)

    def learn(work: Workspace) -> Mapping[str, float]:
        return _measure(work, config, questions, examples, list(models), pipeline.seed)

    spec = StageSpec(
        name="multiple-choice",
        module=__name__,
        # Differences are to the first model, and inputs have no order.
        parameters={
            "multiple_choice": config.model_dump(mode="json") | {"baseline": next(iter(models))}
        },
        inputs=models,
        external={"questions": _digest(questions)}
        | ({} if examples is None else {"examples": _digest(examples)}),
    )
    ref = run_stage(spec, pipeline, learn)
    _show(ref, pipeline)
    return ref


def check_labels(models: Mapping[str, StageRef]) -> None:
    """Refuse models without a name that metrics can carry.

    Raises:
        ParameterError: No models, or a label with other characters.
    """
    if not models:
        raise ParameterError(
            "no model was given, wanted at least one; name one, such as sft/DIGEST"
        )
    for label in models:
        if not label or not set(label) <= LABEL_CHARACTERS or label in TAKEN:
            raise ParameterError(
                f"model label {label!r} cannot name metrics; wanted letters, digits, _ . - and "
                f"none of {', '.join(TAKEN)}"
            )


def _digest(path: Path) -> str:
    try:
        return file_digest(path.expanduser())
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error}); wanted a file of JSON lines; check the path, as the "
            "flow's machine sees it"
        ) from error


def _measure(
    work: Workspace,
    config: MultipleChoiceConfig,
    questions: Path,
    examples: Path | None,
    labels: list[str],
    seed: int,
) -> dict[str, float]:
    # Imports torch: only where there is work to do.
    from models.benchmarks.multiple_choice import answer_questions
    from models.benchmarks.questions import read_questions
    from models.language.folders import load_causal_model, load_tokenizer

    asked = read_questions(questions.expanduser())
    shown = None if examples is None else read_questions(examples.expanduser())
    found: dict[str, Answers] = {}
    for label in labels:
        folder = work.inputs[label] / "model"
        found[label] = answer_questions(
            load_causal_model(folder).to(work.device),
            load_tokenizer(folder, wants_template=config.prompt == "chat"),
            asked,
            config,
            seed=derive_seed(seed, "multiple-choice"),
            shown=shown,
        )
    gains = _gains(found, derive_seed(seed, "multiple-choice.bootstrap"))
    metrics = {
        f"multiple_choice/{label}/{name}": value
        for label, answers in found.items()
        for name, value in answers.metrics().items()
    }
    for label, measures in gains.items():
        for name, gain in measures.items():
            for suffix, value in (("", gain.mean), ("_low", gain.low), ("_high", gain.high)):
                metrics[f"multiple_choice/{label}/{name}_gain{suffix}"] = value
    (work.out / "results.json").write_text(
        json.dumps(_results(found), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
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
    report = _report(asked.name, config, found, gains)
    (work.out / "report.md").write_text(report, encoding="utf-8")
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _gains(found: "Mapping[str, Answers]", seed: int) -> dict[str, dict[str, Any]]:
    """Each other model's measures less the first one's, question by question, with intervals."""
    import numpy as np

    from models.statistics.intervals import paired_bootstrap

    first, *others = found
    return {
        label: {
            name: paired_bootstrap(
                np.asarray(found[first].correct[name], dtype=np.float64)[:, None],
                np.asarray(right, dtype=np.float64)[:, None],
                RESAMPLES,
                seed,
            )
            for name, right in found[label].correct.items()
        }
        for label in others
    }


def _results(found: "Mapping[str, Answers]") -> dict[str, Any]:
    """Numbers of all models and subjects, as plain values; null where there is none."""
    return {
        label: {
            name: value if math.isfinite(value) else None
            for name, value in answers.metrics().items()
        }
        | {
            "subjects": {
                subject: {
                    name: {"mean": share.mean, "low": share.low, "high": share.high}
                    for name, share in shares.items()
                }
                for subject, shares in answers.by_subject().items()
            }
        }
        for label, answers in found.items()
    }


def _report(
    name: str,
    config: MultipleChoiceConfig,
    found: "Mapping[str, Answers]",
    gains: Mapping[str, Mapping[str, Any]],
) -> str:
    """Tables of all models, of gains over the first one, and of subjects, as Markdown."""
    first, *others = found
    measures = list(found[first].correct)
    chance = found[first].metrics().get("chance")
    lines = [
        f"## {table_cell(name, 80)}: {len(found[first].subjects)} questions, "
        f"{config.shots} examples shown, {config.prompt} prompts",
        "",
        "Accuracy with 95% Wilson intervals"
        + ("." if chance is None else f"; guessing gives {chance:.3f}."),
        "",
        f"| model | {' | '.join(NAMES[one] for one in measures)} | perplexity of the right answer "
        "| contexts cut |",
        f"|---|{'---|' * len(measures)}---|---|",
    ]
    for label, answers in found.items():
        cells = [_share(share) for share in answers.shares().values()]
        lines.append(
            f"| {label} | {' | '.join(cells)} | {answers.perplexity:.4g} | {answers.cut} |"
        )
    for label in others:
        told = ", ".join(f"{NAMES[one]} {gain}" for one, gain in gains[label].items())
        lines += ["", f"{label} less {first}, paired by question: {told}."]
    subjects = {label: answers.by_subject() for label, answers in found.items()}
    if subjects[first]:
        lines += ["", f"| subject ({NAMES[measures[0]]}) | {' | '.join(found)} |"]
        lines.append(f"|---|{'---|' * len(found)}")
        for subject in subjects[first]:
            cells = [_share(subjects[label][subject][measures[0]]) for label in found]
            lines.append(f"| {table_cell(subject, 60)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _share(share: Any) -> str:
    return f"{share.mean:.3f} [{share.low:.3f}, {share.high:.3f}]"


def _show(ref: StageRef, pipeline: PipelineRun) -> None:
    """Put the report on the Prefect run's page, and its numbers on the MLflow parent's."""
    settings = load_settings()
    folder = Store(settings.store).folder(ref.stage, ref.digest)
    report = (folder / "report.md").read_text(encoding="utf-8")
    show_markdown("multiple-choice", report, "Multiple choice and cloze")
    with tolerated("the report of multiple choice"):
        tracker = Tracker(settings)
        if pipeline.run_id:
            tracker.log_final(pipeline.run_id, ref.metrics)
