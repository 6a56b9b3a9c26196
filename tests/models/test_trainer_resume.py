"""Trainers that die or are stopped resume to the same bytes and the same numbers.

Pretraining, SFT and reward modelling alike: 11 steps, means logged at 3, 6, 9 and 11, checkpoints
at 4, 8 and 11. So a checkpoint always falls into the middle of a span of the log.
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints import is_intact, latest
from models.families.config import ArchitectureConfig
from models.language.config import SamplingConfig
from models.reward.config import RewardStageConfig
from models.reward.training import train_reward_model
from models.rows import write_rows
from models.runtime import TrainingRun
from models.training import callbacks as trainer_callbacks
from models.training import setup
from models.training.callbacks import HeldOutCallback
from models.training.config import PretrainConfig, SFTStageConfig
from models.training.pretraining import pretrain
from models.training.setup import GuardedTrainer
from models.training.sft import finetune

STEPS = 11
WORDS = ["cat", "dog", "mat", "hill", "day", "sum", "home", "it", "two", "five", "green"]
EPOCHS: dict[str, Any] = {
    "epochs": 4.0,
    "batch_size": 4,  # of 11 rows
    "checkpoint_steps": 4,
    "tokens_per_microbatch": 32,
    "gradient_checkpointing": True,
    "precision": "bfloat16",
}

Numbers = list[tuple[int, dict[str, float]]]
"""What a run logged, in the order of the calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage's learning function, all that it is given but for folders and log."""

    learn: Callable[..., Any]
    given: Mapping[str, Any]
    measurement: str

    def run(
        self, folder: Path, logged: Numbers, disturb: Callable[[bool, int], None] | None = None
    ) -> Numbers:
        """Run it; `disturb` is called before a measurement (or not) of a step is noted."""

        def log(metrics: Mapping[str, float], step: int) -> None:
            if disturb is not None:
                disturb(self.measurement in metrics, step)
            logged.append((step, dict(metrics)))

        (folder / "out").mkdir(parents=True, exist_ok=True)
        run = TrainingRun(
            out=folder / "out",
            checkpoints=folder / "checkpoints",
            seed=5,
            device="cpu",
            log=log,
        )
        self.learn(**self.given, run=run)
        return logged


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """What the run that nothing disturbed has left."""

    published: dict[str, bytes]
    logged: Numbers


@pytest.fixture(scope="module", params=["pretrain", "sft", "reward"])
def stage(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tokenizer_folder: Path,
    base_folder: Path,
    corpus_file: Path,
    tiny_architecture: ArchitectureConfig,
) -> Stage:
    rows = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    answers = {"completion": " on the mat", "chosen": " ran home", "rejected": " slept all day"}
    write_rows(rows, [{"prompt": f"the {word}", **answers} for word in WORDS])
    given: dict[str, Any]
    if request.param == "pretrain":
        config = PretrainConfig(steps=STEPS, batch_size=4, block_tokens=16, checkpoint_steps=4)
        given = {"tokenizer": tokenizer_folder, "corpus": corpus_file, "heldout": corpus_file}
        given |= {"architecture": tiny_architecture, "config": config}
        return Stage(learn=pretrain, given=given, measurement="pretrain/heldout_loss")
    if request.param == "sft":
        given = {"base": base_folder, "demonstrations": rows, "heldout": rows}
        given |= {"config": SFTStageConfig(**EPOCHS)}
        return Stage(learn=finetune, given=given, measurement="sft/heldout_loss")
    given = {"sft": base_folder, "preferences": rows, "heldout": rows, "prompts": rows}
    given |= {"config": RewardStageConfig(**EPOCHS, moment_samples=16), "contrasts": None}
    given |= {"sampling": SamplingConfig(max_completion_tokens=4)}
    return Stage(learn=train_reward_model, given=given, measurement="reward/accuracy")


@pytest.fixture(scope="module", autouse=True)
def spans_of_three_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_callbacks, "LOGGED_POINTS", 3)
        yield


@pytest.fixture(scope="module")
def whole(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    logged = stage.run(folder, [])
    marked = [(step, stage.measurement in metrics) for step, metrics in logged]
    assert marked == [
        (3, False), (4, True), (6, False), (8, True), (9, False), (11, False), (11, True)
    ]  # fmt: skip
    return Whole(published=_published(folder), logged=logged)


def _published(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in (folder / "out").rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class Died(RuntimeError):
    """Strikes in the middle of a step."""


@pytest.fixture
def in_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, Callable[[], None]], Any]]:
    """Do something in the middle of a step, when its gradient is there and nothing has moved."""
    original = GuardedTrainer.training_step
    planned: dict[int, Callable[[], None]] = {}

    def disturbed(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        planned.pop(self.state.global_step + 1, lambda: None)()
        return loss

    monkeypatch.setattr(GuardedTrainer, "training_step", disturbed)
    yield planned.__setitem__
    assert not planned, "the step was never taken"


def _die() -> None:
    raise Died


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def handler() -> Iterator[Callable[[Callable[..., None]], Any]]:
    """Set what SIGTERM does, as whoever runs the process would."""
    before = signal.getsignal(signal.SIGTERM)
    yield lambda wanted: signal.signal(signal.SIGTERM, wanted)
    signal.signal(signal.SIGTERM, before)


def _leave(*_: object) -> None:
    raise SystemExit(143)


@pytest.mark.parametrize(
    "deaths",  # the step in which a run dies, the checkpoint from which the next one resumes
    [[(2, 0)], [(5, 4), (7, 4)], [(10, 8), (11, 8)]],
    ids=["first span", "one span twice", "last spans"],
)
def test_run_that_died_resumes_to_the_same_bytes_and_numbers(
    stage: Stage, whole: Whole, tmp_path: Path, in_step: Any, deaths: list[tuple[int, int]]
) -> None:
    kept = tmp_path / "checkpoints"
    since = 0
    for step, checkpoint in deaths:
        in_step(step, _die)
        logged: Numbers = []
        with pytest.raises(Died):
            stage.run(tmp_path, logged)
        assert logged == [entry for entry in whole.logged if since < entry[0] < step]
        assert latest(kept) == (kept / f"checkpoint-{checkpoint}" if checkpoint else None)
        since = checkpoint
    assert stage.run(tmp_path, []) == [entry for entry in whole.logged if entry[0] > since]
    assert _published(tmp_path) == whole.published


def test_run_that_died_while_it_measured_measures_after_all(
    stage: Stage, whole: Whole, tmp_path: Path
) -> None:
    def die(measured: bool, step: int) -> None:
        if measured and step == 8:
            raise Died

    first: Numbers = []
    with pytest.raises(Died):
        stage.run(tmp_path, first, die)
    assert first + stage.run(tmp_path, []) == whole.logged
    assert _published(tmp_path) == whole.published


@pytest.mark.parametrize(
    "steps",
    # 3 ends a span of the log, 8 is due for a checkpoint and a measurement, 11 is the last.
    [[1, 5, 6], [3, 8, 11]],
    ids=["in between", "at turns"],
)
def test_stopped_run_saves_that_very_step_and_resumes_from_it(
    stage: Stage, whole: Whole, tmp_path: Path, in_step: Any, handler: Any, steps: list[int]
) -> None:
    handler(_leave)
    logged: Numbers = []
    for step in steps:
        in_step(step, _terminate)
        with pytest.raises(SystemExit) as left:
            stage.run(tmp_path, logged)
        assert left.value.code == 143
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        assert is_intact(folder)
        assert latest(tmp_path / "checkpoints") == folder
        assert _published(tmp_path) == {}
        measured = [at for at, metrics in logged if stage.measurement in metrics]
        assert measured == [at for at in (4, 8) if at < step]  # none on the way out
    assert stage.run(tmp_path, logged) == whole.logged  # every number, none of them twice
    assert _published(tmp_path) == whole.published


def test_run_stopped_while_it_measures_exits_at_once_and_measures_after_all(
    stage: Stage, whole: Whole, tmp_path: Path, handler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler(_leave)
    measured: list[str] = []

    def interrupted(measure: Callable[[Any], Any], *given: Any) -> HeldOutCallback:
        def measure_slowly(model: Any) -> Any:
            measured.append("begun")
            if len(measured) == 3:
                _terminate()
            metrics = measure(model)
            measured.append("done")
            return metrics

        return HeldOutCallback(measure_slowly, *given)

    with monkeypatch.context() as patch:
        patch.setattr(setup, "HeldOutCallback", interrupted)
        logged: Numbers = []
        with pytest.raises(SystemExit):
            stage.run(tmp_path, logged)
    assert measured == ["begun", "done", "begun"]  # at step 4, and given up at step 8
    assert latest(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "checkpoint-8"
    assert stage.run(tmp_path, logged) == whole.logged
    assert _published(tmp_path) == whole.published


def test_run_stopped_by_a_handler_that_does_not_raise_publishes_nothing(
    stage: Stage, whole: Whole, tmp_path: Path, in_step: Any, handler: Any
) -> None:
    heard: list[int] = []
    handler(lambda number, frame: heard.append(number))
    in_step(7, _terminate)
    logged: Numbers = []
    with pytest.raises(KeyboardInterrupt, match="before its last step"):
        stage.run(tmp_path, logged)
    assert heard == [signal.SIGTERM]
    assert _published(tmp_path) == {}
    in_step(STEPS, _terminate)  # now all is learned, and the handler wants to continue
    assert stage.run(tmp_path, logged) == whole.logged
    assert heard == [signal.SIGTERM] * 2
    assert _published(tmp_path) == whole.published
