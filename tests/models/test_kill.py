"""Stages that are killed again and again end like one that nothing has disturbed.

Each run is a process of its own (see kill_driver.py). It is killed while it learns, at moments
drawn from a fixed seed and spread over what an undisturbed run takes, and while it writes a
checkpoint, where it is made to hang until the kill comes.
"""

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints import is_intact
from models.language.folders import save_model
from models.language.scoring import ScoreMoments, write_score_moments
from models.rows import write_rows

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 120
GRACE_SECONDS = 10
"""What a stopped run has to save in; schedulers kill after 30 seconds or so."""

WORDS = ["the cat", "a dog ran", "what is the sum", "home over", "你好", "slept all day", "two and"]
ANSWERS = {"completion": " on the mat", "chosen": " ran home", "rejected": " it is five"}


def _hang(module: str, name: str, how: str, call: int) -> dict[str, Any]:
    """Where an attempt is to hang, so that it is killed there."""
    return {"module": module, "name": name, "how": how, "call": call}


RANDOM = None
"""Killed at a moment that is drawn."""
TEARS = ("save", "seal", "_flush")
"""Functions in which a kill tears the checkpoint that is being written."""
TRAINER_KILLS = [
    RANDOM,
    _hang("torch", "save", "half", 6),  # of four a checkpoint: the second one's optimiser
    RANDOM,
    _hang("models.training.callbacks", "seal", "before", 2),
    RANDOM,
]
PPO_KILLS = [
    _hang("torch", "save", "half", 1),  # the first checkpoint: there is none to go back to
    RANDOM,
    _hang("torch", "save", "half", 2),
    RANDOM,
    _hang("models.ppo.session", "seal", "before", 1),
    RANDOM,
    _hang("models.checkpoints", "_flush", "before", 3),  # the state, the session, now the seal
    RANDOM,
    _hang("models.ppo.session", "prune", "before", 1),  # sealed, and older ones still there
    RANDOM,
    _hang("models.ppo.run", "publish", "before", 2),  # the actor is published, its critic not
]
KILLS = {"pretrain": TRAINER_KILLS, "sft": TRAINER_KILLS, "reward": TRAINER_KILLS, "ppo": PPO_KILLS}


class Driver:
    """The process that forks a child for each run, and what is heard of them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("kill_driver.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        self._child = 0

    def start(self, job: Mapping[str, Any]) -> None:
        """Fork a child for a run; one that a failed test has left behind is ended first."""
        self.send(signal.SIGKILL)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job, default=str).encode() + b"\n")
        self._child = int(self.hear("pid").partition(" ")[2])

    def hear(self, *wanted: str, seconds: float = PATIENCE_SECONDS) -> str:
        """The next line that begins with a wanted word, or nothing if the time is up first."""
        out, until = self._process.stdout, time.monotonic() + seconds
        assert out is not None
        while select.select([out], [], [], max(0.0, until - time.monotonic()))[0]:
            line = out.readline().decode().strip()
            assert line, "the driver has ended"
            if line.startswith("exit"):
                self._child = 0
            if line.startswith(wanted):
                return line
        return ""

    def send(self, number: signal.Signals) -> None:
        """Send the child a signal, if there is still one."""
        if self._child:
            with suppress(ProcessLookupError):
                os.kill(self._child, number)

    def close(self) -> None:
        """End the child, then the driver."""
        self.send(signal.SIGKILL)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


@pytest.fixture(scope="module")
def inputs(
    tmp_path_factory: pytest.TempPathFactory,
    make_network: Callable[..., Any],
    tokenizer: Any,
    tokenizer_folder: Path,
    corpus_file: Path,
) -> dict[str, dict[str, Path | None]]:
    """What each stage reads, by its name and its argument's; read-only."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, score_head in (("sft", False), ("reward", True)):
        model = make_network("llama", vocab=len(tokenizer), score_head=score_head, seed=score_head)
        model.config.pad_token_id = tokenizer.pad_token_id
        save_model(model, tokenizer, folder / name)
    write_score_moments(folder / "reward", ScoreMoments(mean=0.1, std=0.9, raw_std=0.9, samples=32))
    rows, sft, corpus = folder / "rows.jsonl", folder / "sft", corpus_file
    write_rows(rows, [{"prompt": text, **ANSWERS} for text in WORDS])
    judged = {"preferences": rows, "heldout": rows, "prompts": rows, "contrasts": None}
    asked = {"prompts": rows, "heldout_prompts": rows, "corpus": corpus}
    return {
        "pretrain": {"tokenizer": tokenizer_folder, "corpus": corpus, "heldout": corpus},
        "sft": {"base": sft, "demonstrations": rows, "heldout": rows},
        "reward": {"sft": sft, **judged},
        "ppo": {"sft": sft, "reward": folder / "reward", **asked},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of a stage in a folder, in as many attempts as it takes."""

    stage: str
    folder: Path
    inputs: Mapping[str, Path | None]

    def job(self, hang: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The driver's job, to begin or to resume."""
        self.folder.mkdir(exist_ok=True)
        return {**asdict(self), "hang": hang}

    def rows(self) -> list[dict[str, Any]]:
        """What was logged and not torn."""
        rows = []
        for line in (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
        return rows

    def numbers(self) -> dict[tuple[int, str], float]:
        """The last value of each metric at each step; times are left out."""
        return {
            (row["step"], name): value
            for row in self.rows()
            for name, value in row["metrics"].items()
            if "/time/" not in name
        }

    def published(self) -> dict[str, bytes]:
        paths = sorted(path for path in (self.folder / "out").rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}

    def said(self) -> str:
        """The last attempt's standard error."""
        return (self.folder / "stderr.log").read_text(encoding="utf-8")

    def newest(self) -> Path:
        """The checkpoint of the highest step, whole or not."""
        folders = (self.folder / "checkpoints").glob("checkpoint-*")
        return max(folders, key=lambda path: int(path.name.rpartition("-")[2]))


class Trial:
    """A stage, how it ends undisturbed, and runs of it that are disturbed."""

    def __init__(self, stage: str, folder: Path, inputs: Mapping[str, Any], driver: Driver) -> None:
        self.stage, self._folder, self._inputs, self._driver = stage, folder, inputs, driver
        self._runs = 0
        self._draws = random.Random(f"kill {stage}")
        self.whole = self.new_run()
        driver.start(self.whole.job())
        assert driver.hear("exit") == "exit 0", self.whole.said()
        first, *_, last = self.whole.rows()
        self._learning_seconds, self.steps = last["seconds"] - first["seconds"], last["step"]

    def new_run(self) -> Run:
        self._runs += 1
        return Run(stage=self.stage, folder=self._folder / str(self._runs), inputs=self._inputs)

    def strike(self, run: Run, number: signal.Signals, hang: Any = RANDOM) -> str:
        """Begin or resume a run and send it a signal; return how it ended.

        A random moment is drawn from the first half of what is left to learn, so that one run can
        be hit several times.
        """
        self._driver.start(run.job(hang))
        heard = self._driver.hear("exit", "hanging" if hang else "learning")
        assert heard, run.said()
        if heard == "learning":
            left = 1 - run.rows()[-1]["step"] / self.steps
            delay = self._draws.uniform(0.0, 0.5) * left * self._learning_seconds
            heard = self._driver.hear("exit", seconds=delay)
        if not heard.startswith("exit"):
            self._driver.send(number)
            heard = self._driver.hear("exit", seconds=GRACE_SECONDS)
            assert heard, f"it did not end within {GRACE_SECONDS} seconds"
        return heard

    def finish(self, run: Run) -> None:
        """Let a run end, and compare it with the undisturbed one."""
        self._driver.start(run.job())
        assert self._driver.hear("exit") == "exit 0", run.said()
        self.compare(run)

    def compare(self, run: Run) -> None:
        """Every published byte, and the last value of each metric at each step."""
        assert run.published() == self.whole.published()
        assert run.numbers() == self.whole.numbers()


@pytest.fixture(scope="module", params=["pretrain", "sft", "reward", "ppo"])
def trial(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    inputs: Mapping[str, Any],
    driver: Driver,
) -> Trial:
    stage = request.param
    trial = Trial(stage, tmp_path_factory.mktemp("runs"), inputs[stage], driver)
    if stage == "ppo":  # all that a checkpoint has to keep was in use
        published, numbers = trial.whole.published(), trial.whole.numbers()
        assert published["out/alarms.jsonl"]
        assert published["out/ema/model.safetensors"] != published["out/model/model.safetensors"]
        assert (20, "ppo/policy/ptx_loss") in numbers
        assert numbers[1, "ppo/objective/kl_coef"] != numbers[20, "ppo/objective/kl_coef"]
    return trial


def test_killed_runs_end_like_the_undisturbed_one(trial: Trial) -> None:
    run, torn = trial.new_run(), None
    waiting = list(KILLS[trial.stage])
    while waiting:
        heard = trial.strike(run, signal.SIGKILL, waiting[0])
        assert torn is None or f"{torn} is torn" in run.said()  # by the attempt before
        torn = None
        if heard == "exit 0":  # it ended before it could be hit
            trial.compare(run)
            run = trial.new_run()
            continue
        assert heard == f"exit {-signal.SIGKILL}", run.said()
        hang = waiting.pop(0)
        if hang is not None and hang["name"] in TEARS:
            torn = run.newest()
            assert not is_intact(torn)
    trial.finish(run)


def test_stopped_runs_save_in_time_and_end_like_the_undisturbed_one(trial: Trial) -> None:
    run, stops = trial.new_run(), 0
    while stops < 3:
        heard = trial.strike(run, signal.SIGTERM)
        if heard == "exit 0":
            trial.compare(run)
            run = trial.new_run()
            continue
        assert heard == f"exit {128 + signal.SIGTERM}", run.said()
        saved = {path.name for path in (run.folder / "checkpoints").iterdir() if is_intact(path)}
        if trial.stage == "ppo":
            assert {"interrupted", f"checkpoint-{trial.steps}"} & saved
        else:
            assert run.newest().name in saved
        stops += 1
    trial.finish(run)
    if trial.stage == "ppo":  # no iteration is logged twice
        assert [row["step"] for row in run.rows()] == list(range(1, trial.steps + 1))
