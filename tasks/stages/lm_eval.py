"""Published benchmarks through lm-evaluation-harness, as a cached stage; an optional extra.

The model's folder goes in as a plain transformers model, the numbers come out under Quartet's
metric names. The harness's version is part of the stage's digest, and so are the files of a folder
with the user's own task definitions. What a task downloads from the hub is not: change `pin` to
measure again after it has changed.
"""

import hashlib
import importlib
import importlib.metadata
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.errors import DataError, ParameterError
from models.files import digest_file, user_path
from tasks.data.limits import local_files, most_bytes
from tasks.reports.benchmarks import lm_eval_page
from tasks.results.store import StageRef
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.stage_task import stage_task
from tasks.run.workspace import Workspace

REMEDY = "pip install 'quartet-rlhf[lm-eval]'"
BOOTSTRAP = 1000
"""Resamples behind the standard errors that have no formula."""
SEEDS = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")


@stage_task("lm-eval")
def lm_eval_benchmark(
    benchmarks: Sequence[str],
    *,
    label: str,
    model: StageRef,
    pipeline: PipelineRun,
    shots: int | None = None,
    chat: bool = False,
    folder: Path | None = None,
    limit: int = 0,
    batch_size: int = 8,
    pin: str = "",
) -> StageRef:
    """Publish what a model scores on published benchmarks.

    Args:
        benchmarks: Names of the harness's tasks or groups, such as `arc_easy`.
        label: What metrics call the model.
        shots: Examples shown; None takes each task's own number.
        chat: Whether prompts go through the model's chat template.
        folder: More task definitions, YAML files with their data beside them.
        limit: Rows of each task, for a quick look; 0 takes all.
        batch_size: Rows at once; shapes rounding at most, so it is not part of the identity.
        pin: Any text; another one measures again.

    Returns:
        The stage, with metrics `lm_eval/<label>/<task>/<metric>`; its folder has results.json.

    Raises:
        ParameterError: The harness is not installed, or does not know a task.
        DataError: The folder does not exist.
    """
    version = lm_eval_version()
    if not benchmarks:
        raise ParameterError("no benchmark was named, wanted at least one, such as arc_easy")
    settings: dict[str, Any] = {"shots": shots, "chat": chat, "limit": limit}

    def learn(work: Workspace) -> Mapping[str, float]:
        seed = pipeline.seed
        found = _evaluate(work, benchmarks, settings, folder, batch_size=batch_size, seed=seed)
        (work.out / "results.json").write_text(
            json.dumps(found, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8"
        )
        return lm_eval_metrics(found["results"], label)

    spec = StageSpec(
        name="lm-eval",
        module=__name__,
        parameters={
            "lm_eval": settings
            | {"benchmarks": sorted(benchmarks), "label": label, "version": version, "pin": pin}
        },
        inputs={"model": model},
        external={} if folder is None else {"definitions": _folder_digest(folder)},
        view=lm_eval_page,
    )
    return run_stage(spec, pipeline, learn)


def lm_eval_version() -> str:
    """The harness's version.

    Raises:
        ParameterError: It is not installed.
    """
    try:
        return importlib.metadata.version("lm-eval")
    except importlib.metadata.PackageNotFoundError as error:
        raise ParameterError(
            "published benchmarks need lm-evaluation-harness (lm_eval 0.4), which is not "
            f"installed; install it: {REMEDY}"
        ) from error


def lm_eval_metrics(results: Mapping[str, Mapping[str, Any]], label: str) -> dict[str, float]:
    """Flatten the harness's results to metric names that MLflow takes.

    Args:
        results: Of each task `{"acc,none": 0.5, "acc_stderr,none": 0.1, "alias": …}`: a metric,
            the filter that its answers went through, and its standard error.
        label: Of the model.

    Returns:
        `lm_eval/<label>/<task>/acc`, and `acc.<filter>` where a filter other than none was used;
        values that are no finite numbers, such as a standard error "N/A", are left out.
    """
    metrics = {}
    for task, numbers in results.items():
        for key, value in numbers.items():
            name, comma, used = key.partition(",")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not comma or not number or not math.isfinite(value):
                continue
            name = name if used == "none" else f"{name}.{used}"
            path = "/".join(re.sub(r"[^\w.-]", "_", part, flags=re.ASCII) for part in (task, name))
            metrics[f"lm_eval/{label}/{path}"] = float(value)
    return metrics


def _evaluate(
    work: Workspace, benchmarks: Sequence[str], settings: Mapping[str, Any], folder: Path | None,
    *, batch_size: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    from models.language.rendering import limit_templates

    limit_templates()  # the harness loads the tokenizer by itself
    harness = importlib.import_module("lm_eval")
    manager_class = importlib.import_module("lm_eval.tasks").TaskManager
    include = None if folder is None else str(folder.expanduser().resolve())
    manager = manager_class(include_path=include)
    unknown = [name for name in benchmarks if not manager.match_tasks([name])]
    if unknown:
        raise ParameterError(
            f"lm-evaluation-harness knows no task {', '.join(unknown)}; see `lm_eval ls tasks`, or "
            "give the folder of your own task definitions"
        )
    found = harness.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(work.inputs["model"] / "model"), "dtype": "float32"}
        | {"use_fast_tokenizer": True},
        tasks=manager.match_tasks(list(benchmarks)),
        num_fewshot=settings["shots"],
        limit=settings["limit"] or None,
        apply_chat_template=settings["chat"],
        batch_size=batch_size,
        device=work.device,
        task_manager=manager,
        log_samples=False,
        bootstrap_iters=BOOTSTRAP,
        **dict.fromkeys(SEEDS, seed % 2**32),
    )
    kept = ("results", "groups", "versions", "n-shot", "n-samples", "higher_is_better")
    return {key: found[key] for key in kept if key in found}


def _folder_digest(folder: Path) -> str:
    folder = user_path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{folder} is no folder, wanted one with YAML task definitions; check the path, as the "
            "flow's machine sees it"
        )
    digest = hashlib.sha256()
    for path in sorted(local_files(folder)):
        name = os.fsencode(path.relative_to(folder).as_posix())
        content = digest_file(path, most_bytes=most_bytes())
        digest.update(name + f"\n{content}\n".encode())
    return digest.hexdigest()
