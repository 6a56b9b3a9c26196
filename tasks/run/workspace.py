"""What a stage's training is given: verified inputs, folders to write to, and how it is called."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeAlias, TypeVar

from models.runtime import Log, TrainingRun
from tasks.run.learning import Learner

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """What a stage's training is given.

    Attributes:
        inputs: Verified folder of each input by role.
        out: Empty folder for the result.
        checkpoints: Folder that outlives a crash.
        cache: Folder of what can be made again.
        log: Takes step metrics.
        learner: Calls what learns; see `learn`.
    """

    inputs: Mapping[str, Path]
    out: Path
    checkpoints: Path
    cache: Path
    device: str
    log: Log
    learner: Learner

    def learn(self, function: Callable[P, R], *args: P.args, **arguments: P.kwargs) -> R:
        """Call a function of models/, in as many processes as the settings say.

        Its arguments are named, and plain where there are several: paths, configs, a
        `TrainingRun`, records, numbers, texts, lists of them; and so is what it returns.
        """
        return self.learner.learn(function, *args, **arguments)

    def training_run(self, out: Path, seed: int, log: Log | None = None) -> TrainingRun:
        return TrainingRun(
            out=out,
            checkpoints=self.checkpoints,
            seed=seed,
            device=self.device,
            log=log or self.log,
        )


Learn: TypeAlias = Callable[[Workspace], Mapping[str, float]]
