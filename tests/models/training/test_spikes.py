"""Spikes of the loss: found, undone and skipped, to the same bits however often a run is killed."""

import contextlib
import io
import json
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoints import latest, seal
from models.errors import DivergedError
from models.families.config import ArchitectureConfig
from models.rows import write_rows
from models.runtime import TrainingRun
from models.training import pretraining, spikes
from models.training.config import PretrainConfig, SpikeConfig
from models.training.order import plan_steps
from models.training.pretraining import pretrain
from models.training.spikes import SpikeError, SpikeWatch

SPIKES = SpikeConfig(recover=True, window=8, deviations=8)
CONFIG = PretrainConfig(
    steps=120,
    batch_size=4,
    block_tokens=16,
    learning_rate=1e-2,
    checkpoint_steps=10,
    spikes=SPIKES,
)
WORDS = ["the cat", "a dog", "ran", "sat", "on the mat", "home", "five", "what is", "the sum"]
BROKEN = 53
"""Step whose batch is garbage, between checkpoints 50 and 60."""


class Killed(BaseException):
    """Ends a run as a signal would: no handler of errors catches it."""


def _write(path: Path, rows: int) -> Path:
    """Random words, so that the loss ends well above 0."""
    draw = random.Random(rows)
    write_rows(path, [{"text": " ".join(draw.choices(WORDS, k=10))} for _ in range(rows)])
    return path


Run = Callable[..., dict[str, float]]


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizer_folder: Path,
    tiny_architecture: ArchitectureConfig,
    make_run: Callable[..., TrainingRun],
) -> Run:
    rows = tmp_path_factory.mktemp("rows")
    given: dict[str, Any] = {
        "tokenizer": tokenizer_folder,
        "corpus": _write(rows / "corpus.jsonl", 500),
        "heldout": _write(rows / "heldout.jsonl", 16),
        "architecture": tiny_architecture,
    }

    def start(folder: Path, config: PretrainConfig = CONFIG, **changes: Any) -> dict[str, float]:
        folder.mkdir(exist_ok=True)
        return pretrain(**given, config=config, run=make_run(folder / "model", **changes))

    return start


@contextlib.contextmanager
def garbage(*steps: int, config: PretrainConfig = CONFIG) -> Iterator[None]:
    """Make the rows of some steps random tokens."""
    original = pretraining._Rows.__getitem__
    broken: set[int] = set()

    def read(self: Any, index: int) -> dict[str, torch.Tensor]:
        if not broken:
            plan = plan_steps([16] * len(self), config, seed=0)
            rows = [row for step in plan.steps for row in step]
            assert len(set(rows)) == len(rows)  # each is in one batch only
            broken.update(row for step in steps for row in plan.steps[step - 1])
        if index not in broken:
            return original(self, index)
        generator = torch.Generator().manual_seed(index)
        ids = torch.randint(3, 320, (16,), generator=generator)
        return {"input_ids": ids, "labels": ids}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining._Rows, "__getitem__", read)
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What the run with a broken batch left, which nothing killed."""

    folder: Path
    metrics: dict[str, float]
    logged: list[tuple[int, dict[str, float]]]
    warnings: str


@pytest.fixture(scope="module")
def recovered(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Recovered:
    folder = tmp_path_factory.mktemp("recovered")
    logged: list[tuple[int, dict[str, float]]] = []
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    logging.getLogger(spikes.__name__).addHandler(handler)
    with garbage(BROKEN):
        found = run(folder, log=lambda metrics, step: logged.append((step, dict(metrics))))
    logging.getLogger(spikes.__name__).removeHandler(handler)
    return Recovered(folder=folder, metrics=found, logged=logged, warnings=heard.getvalue())


def _weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def _spikes(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "spikes.json").read_text(encoding="utf-8"))
    return found


def test_a_broken_batch_is_found_undone_and_skipped(
    run: Run, recovered: Recovered, tmp_path: Path
) -> None:
    [spike] = _spikes(recovered.folder)
    assert (spike["step"], spike["skipped"], spike["resumed_from"]) == (BROKEN, [BROKEN], 50)
    assert spike["loss"] > spike["bound"] > spike["median"]
    assert f"back to step 50, skipping the batches of steps {BROKEN} to" in recovered.warnings
    noted = {"pretrain/spike_loss": spike["loss"], "pretrain/skipped_batches": 1.0}
    assert (BROKEN, noted) in recovered.logged
    assert recovered.metrics["pretrain/skipped_batches"] == 1
    assert recovered.metrics["pretrain/tokens"] == 119 * 4 * 16  # of 120 steps
    # The skipped step has a learning rate and no loss of its own; it is no part of a mean.
    steps = {at: found for at, found in recovered.logged if "pretrain/learning_rate" in found}
    assert [at for at, found in steps.items() if "pretrain/loss" not in found] == [BROKEN]
    assert sorted(steps) == list(range(1, 121))
    without = run(tmp_path / "without")
    assert without["pretrain/skipped_batches"] == 0
    assert _spikes(tmp_path / "without") == []
    assert recovered.metrics["pretrain/heldout_loss"] == pytest.approx(
        without["pretrain/heldout_loss"], rel=0.01
    )


@pytest.mark.parametrize("at", [BROKEN + 2, 61], ids=["after", "a checkpoint later"])
def test_a_killed_run_recovers_to_the_same_bits(
    run: Run, recovered: Recovered, tmp_path: Path, at: int
) -> None:
    def kill(metrics: Mapping[str, float], step: int) -> None:
        if step == at:
            raise Killed

    with garbage(BROKEN):
        with pytest.raises(Killed):
            run(tmp_path, log=kill)
        assert run(tmp_path) == recovered.metrics
    assert _spikes(tmp_path) == _spikes(recovered.folder)
    assert _weights(tmp_path) == _weights(recovered.folder)


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_the_bits_are_those_of_a_training_that_never_saw_the_batch(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    config = CONFIG.model_copy(update={"precision": precision, "steps": 24})
    with garbage(22, config=config):
        run(tmp_path / "recovered", config)
    assert _spikes(tmp_path / "recovered")[0]["skipped"] == [22]
    # An oracle: nothing is watched, and the step is left out from the beginning.
    monkeypatch.setattr(SpikeWatch, "skipped", {22})
    run(tmp_path / "oracle", config.model_copy(update={"spikes": SpikeConfig()}))
    assert _weights(tmp_path / "recovered") == _weights(tmp_path / "oracle")


def test_two_spikes_one_before_the_first_checkpoint(run: Run, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"checkpoint_steps": 20, "steps": 45})
    with garbage(18, 42, config=config):
        run(tmp_path, config)
    assert [(one["skipped"], one["resumed_from"]) for one in _spikes(tmp_path)] == [
        ([18], 0),
        ([42], 40),
    ]


def test_a_run_killed_while_it_goes_back_recovers_to_the_same_bits(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three high losses, of steps 30 to 32: checkpoint-30 lies within the spike.
    patient = SPIKES.model_copy(update={"patience": 3, "batches_before": 1})
    config = CONFIG.model_copy(update={"spikes": patient, "steps": 34})
    parent = tmp_path / "killed" / "model.checkpoints"

    def die(*_: Any) -> None:
        assert latest(parent) == parent / "checkpoint-20"
        raise Killed

    with garbage(30, 31, 32, config=config):
        whole = run(tmp_path / "whole", config)
        with monkeypatch.context() as patch:
            patch.setattr(SpikeWatch, "resume", die)
            with pytest.raises(Killed):
                run(tmp_path / "killed", config)
        assert run(tmp_path / "killed", config) == whole
    [spike] = _spikes(tmp_path / "whole")
    assert (spike["skipped"], spike["resumed_from"]) == ([29, 30, 31, 32], 20)
    assert _weights(tmp_path / "killed") == _weights(tmp_path / "whole")


def test_a_loss_that_is_not_finite_is_a_spike_whatever_the_patience(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = SPIKES.model_copy(update={"patience": 5})
    original = pretraining.BlockTrainer.compute_loss

    def compute(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = original(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step == 11 else loss  # in step 12

    monkeypatch.setattr(pretraining.BlockTrainer, "compute_loss", compute)
    run(tmp_path, CONFIG.model_copy(update={"spikes": patient, "steps": 14}))
    [spike] = _spikes(tmp_path)
    assert (spike["skipped"], spike["resumed_from"]) == ([12], 10)


def test_more_spikes_than_allowed_stop_the_training(run: Run, tmp_path: Path) -> None:
    one = SPIKES.model_copy(update={"most": 1})
    with (
        garbage(20, 25),
        pytest.raises(DivergedError, match=r"at step 25, spike 2 .* at most 1"),
    ):
        run(tmp_path, CONFIG.model_copy(update={"spikes": one}))


def test_a_spike_lies_so_many_robust_deviations_above_the_median() -> None:
    config = SpikeConfig(recover=True, window=8, deviations=10, patience=2)
    watch = SpikeWatch(config, None, "pretrain", lambda metrics, step: None)
    # Median 4.1; absolute deviations 0.1 0.1 0.1 0.1 0.1 0.1 0.3 0.9, median 0.1: the bound is
    # 4.1 + 10 * 1.4826 * 0.1 = 5.5826.
    for step, loss in enumerate([4.0, 4.2, 4.0, 4.2, 4.0, 4.2, 3.8, 5.0], start=1):
        watch.judge(step, loss, True)  # too few to compare with
    watch.judge(9, 5.6, True)  # above, but once
    watch.judge(10, 5.58, True)  # not above, and now part of the window: 4.0 has left it
    # 4.2 4.0 4.2 4.0 4.2 3.8 5.0 5.58: median 4.2, deviations 0 0 0 0.2 0.2 0.4 0.8 1.38, median
    # 0.2: the bound is 4.2 + 10 * 1.4826 * 0.2 = 7.1652.
    watch.judge(11, 7.17, True)
    with pytest.raises(SpikeError):
        watch.judge(12, 7.17, True)
    [spike] = watch.spikes
    assert spike["skipped"] == [11, 12]
    assert spike["median"] == 4.2
    assert spike["bound"] == pytest.approx(7.1652)


def test_a_loss_near_zero_may_leap_to_ten_times_its_median() -> None:
    watch = SpikeWatch(SpikeConfig(recover=True, window=8), None, "pretrain", lambda m, step: None)
    for step in range(1, 9):
        watch.judge(step, 0.001, True)
    watch.judge(9, 0.0135, True)
    watch.judge(10, 0.1, True)
    with pytest.raises(SpikeError):
        watch.judge(11, 0.102, True)  # ten times 0.01 nats above the median


def test_a_spike_right_behind_skipped_batches_reaches_back_before_them() -> None:
    """The weights were spoilt before: leaving out one batch after the other would never end it."""
    config = SpikeConfig(recover=True, window=8)
    watch = SpikeWatch(config, None, "pretrain", lambda metrics, step: None)
    for step in range(1, 9):
        watch.judge(step, 2.0, True)
    for step, skipped in ((20, [20]), (21, [19, 21]), (22, [16, 17, 18, 22]), (40, [40])):
        with pytest.raises(SpikeError):
            watch.judge(step, 3.0, True)
        assert watch.spikes[-1]["skipped"] == skipped
        watch.judge(step, 2.0, True)  # nothing is high any more


def test_it_goes_back_no_further_than_to_the_oldest_checkpoint(tmp_path: Path) -> None:
    config = SpikeConfig(recover=True, window=8)
    watch = SpikeWatch(config, None, "pretrain", lambda metrics, step: None)
    for step in range(1, 9):
        watch.judge(step, 2.0, True)
    watch.spikes = [{"skipped": [*range(12, 22)]}]
    for step in (10, 20):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_bytes(b"1")
        seal(folder)
    with pytest.raises(SpikeError):
        watch.judge(22, 3.0, True)
    assert watch.spikes[-1]["skipped"] == [*range(2, 12), 22]
    assert watch.go_back(tmp_path).name == "checkpoint-10"
    assert watch.spikes[-1]["skipped"] == [11, 22]
