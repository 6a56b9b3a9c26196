"""The MLflow parent of one pipeline run, opened and closed around its stages."""

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tasks.digests import library_versions
from tasks.settings import load_settings
from tasks.tracking import Status, Tracker, flatten, tolerated

__all__ = ["PipelineRun", "open_pipeline"]


class PipelineRun(BaseModel):
    """What each stage needs to know of the pipeline run it belongs to.

    Attributes:
        name: The same in Prefect and MLflow.
        preset: Name of the preset it started from.
        seed: The root seed.
        run_id: The MLflow parent run.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    preset: str
    seed: int
    run_id: str


@contextlib.contextmanager
def open_pipeline(
    *, name: str, preset: str, seed: int, parameters: Mapping[str, Any]
) -> Iterator[PipelineRun]:
    """Open the parent run; close it as finished, failed or killed.

    Raises:
        QuartetError: The tracking server does not answer.
    """
    tracker = Tracker(load_settings())
    tracker.check()
    run_id = tracker.start_run(
        name,
        parameters=flatten(parameters),
        tags={
            "quartet.kind": "pipeline",
            "quartet.preset": preset,
            "quartet.seed": str(seed),
            **{f"version.{library}": text for library, text in library_versions().items()},
            **_git_tags(),
        },
    )
    status: Status = "KILLED"  # unless it ends otherwise than by a signal
    try:
        yield PipelineRun(name=name, preset=preset, seed=seed, run_id=run_id)
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        with tolerated(f"the end of {name}"):
            tracker.finish(run_id, status)


def _git_tags() -> dict[str, str]:
    """Commit and state of the checkout that this package runs from, if it is one."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        dirty = bool(git("status", "--porcelain"))
        return {"git.commit": git("rev-parse", "HEAD"), "git.dirty": str(dirty).lower()}
    except (OSError, subprocess.SubprocessError):
        return {}
