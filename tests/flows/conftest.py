"""One tiny run of the whole pipeline that tests look at, in this process or under `quartet up`."""

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import CO_OPTIMIZED
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from flows.forms import RunForm
from flows.improve import ImproveForm, ImproveResult, improve
from flows.pipeline import PipelineResult, rlhf_pipeline
from tasks.results.store import StageRef
from tasks.run import stage
from tasks.run.workspace import Workspace
from tests.flows.operated import Operation, operated

SMALL = (
    "model.layers=1",
    "model.width=32",
    "model.heads=2",
    "model.context=64",
    "tokenizer.vocab_size=500",
    "pretrain.steps=20",
    "pretrain.checkpoint_steps=5",
    "pretrain.batch_size=8",
    "pretrain.block_tokens=32",
    "sampling.max_completion_tokens=12",
    "sft.batch_size=16",
    "sft.checkpoint_steps=3",
    "reward.batch_size=8",
    "reward.checkpoint_steps=2",
    "reward.moment_samples=32",
    "reward_quality.prompts=8",
    "reward_quality.best_of=4",
    "reward_quality.bootstrap_resamples=100",
    "reward_quality.stop_if_weak=false",  # so young a model knows no preferences
    "ppo.iterations=4",
    "ppo.checkpoint_iterations=1",
    "ppo.critic_warmup_iterations=1",
    "ppo.rollouts_per_iteration=16",
    "ppo.rollouts_per_minibatch=8",
    "evaluate.prompts=30",  # fewer are refused
    "evaluate.samples_per_prompt=2",
    "evaluate.min_matched_completions=50",
    "evaluate.bootstrap_resamples=100",
)
"""Every stage in a second or so; what is learned does not matter."""

TINY = (
    *SMALL,
    "data.world.documents=400",
    "data.world.demonstrations=200",
    "data.world.preferences=60",
    "data.world.heldout_preferences=40",
    "data.world.contrasts=10",
    "feedback.preferences=60",
    "feedback.annotated_share=0.3",  # so young a model seldom ends a completion: few pairs count
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A home folder of Quartet in which pipelines are run, in this process."""

    path: Path

    SMALL: ClassVar[tuple[str, ...]] = SMALL
    TINY: ClassVar[tuple[str, ...]] = TINY

    def tiny(self, *settings: str) -> PipelineResult:
        """Run the tiny pipeline on the embedded world, with some fields set otherwise."""
        return self.run("quickstart", *TINY, *settings)

    def run(self, preset: str, *settings: str) -> PipelineResult:
        """Run the real flow of a preset."""
        with pytest.MonkeyPatch.context() as patch:
            self.set(patch)
            return cast(PipelineResult, rlhf_pipeline(RunForm.of(preset, settings)))

    def improve(self, rounds: int, *settings: str, **fields: Any) -> ImproveResult:
        """Run the real loop on the tiny pipeline; nothing is promoted unless asked for."""
        form = ImproveForm.of("quickstart", (*TINY, *settings))
        form = form.model_copy(update={"rounds": rounds, "promotion": False, **fields})
        with pytest.MonkeyPatch.context() as patch:
            self.set(patch)
            return cast(ImproveResult, improve(form))

    def set(self, patch: pytest.MonkeyPatch) -> None:
        """Point the environment here."""
        for name, value in self.environment().items():
            patch.setenv(name, value)
        patch.delenv("QUARTET_TRACKING_URI", raising=False)
        patch.delenv("QUARTET_EXPERIMENT", raising=False)

    def environment(self) -> dict[str, str]:
        """One thread, so that the same seed gives the same bits."""
        return {
            "QUARTET_HOME": str(self.path),
            "QUARTET_DEVICE": "cpu",
            "QUARTET_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
        }

    def folder(self, ref: StageRef) -> Path:
        """Where a stage is published."""
        return self.path / "store" / ref.stage / ref.digest


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Callable[[], Home]:
    """Make an empty home folder."""

    def make() -> Home:
        path = tmp_path_factory.mktemp("home")
        shutil.copyfile(mlflow_template, path / "mlflow.db")
        return Home(path=path)

    return make


@pytest.fixture(scope="session")
def first_home(new_home: Callable[[], Home]) -> Home:
    """The home folder of the first run; later runs may add to it."""
    return new_home()


Executed = dict[str, set[tuple[str, str]]]


@pytest.fixture(scope="session")
def executed() -> Executed:
    """By stage, the functions and classes that the first run's training executed; filled by it."""
    return {}


@pytest.fixture(scope="session")
def first_run(prefect_server: str, first_home: Home, executed: Executed) -> PipelineResult:
    """The whole pipeline, once, tiny, on the embedded world."""
    compute = stage._StageRun._compute

    def traced(self: Any, learn: Callable[[Workspace], Any]) -> StageRef:
        found = executed.setdefault(self.spec.module, set())
        seen: dict[int, Any] = {}  # by id, for hashing code is slow

        def note(frame: Any, event: str, argument: object) -> None:
            code = frame.f_code
            if event != "call" or id(code) in seen:
                return
            seen[id(code)] = code
            module = frame.f_globals.get("__name__", "")
            is_function = code.co_flags & CO_OPTIMIZED  # else a class or module body
            if is_function and module.split(".")[0] in ("models", "tasks"):
                found.add((module, code.co_qualname.split(".")[0]))

        def watched(work: Workspace) -> Any:
            threading.setprofile(note)
            sys.setprofile(note)
            try:
                return learn(work)
            finally:
                sys.setprofile(None)
                threading.setprofile(None)  # type: ignore[arg-type]

        return compute(self, watched)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage._StageRun, "_compute", traced)
        return first_home.tiny()


@pytest.fixture(scope="module")
def operation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operation]:
    """A `quartet up`; afterwards nothing that it started is left."""
    with operated(tmp_path_factory.mktemp("operated")) as running:
        yield running


@pytest.fixture(scope="module")
def tiny(new_home: Any) -> tuple[str, ...]:
    """Settings of a pipeline that takes half a minute."""
    return tuple(new_home().TINY)


@pytest.fixture(scope="module")
def finished(operation: Operation, tiny: tuple[str, ...]) -> Any:
    """A pipeline run, started as the UI does."""
    run_id = operation.start_pipeline(*tiny)
    operation.wait(run_id, "Completed")
    return run_id
