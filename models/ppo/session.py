"""The loop around the PPO trainer: what is logged, watched, saved, resumed and taken back."""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from models.checkpoints import is_intact, latest, prune, seal
from models.errors import DivergedError
from models.interruption import Interruption
from models.language.generation import sample_completions
from models.language.prompts import encode_to_fit
from models.language.tokenizer import decode_completion
from models.ppo.alarms import Alarm, AlarmWatch, describe
from models.ppo.trainer import PPOTrainer
from models.randomness import derive_seed
from models.runtime import Log

logger = logging.getLogger(__name__)

SESSION = "session.json"
INTERRUPTED = "interrupted"
"""Folder of a checkpoint that was taken in the middle of an iteration."""


class Session:
    """The loop around the trainer: what is logged, watched, saved and resumed."""

    def __init__(
        self,
        trainer: PPOTrainer,
        tokenizer: Any,
        watched: Sequence[Any],
        checkpoints: Path,
        interruption: Interruption,
    ) -> None:
        self.trainer = trainer
        self.metrics: dict[str, float] = {}
        self.samples: list[dict[str, Any]] = []
        self.alarms: list[dict[str, Any]] = []
        self._tokenizer = tokenizer
        self._watched = watched
        self._checkpoints = checkpoints
        self._interruption = interruption
        self._watch = AlarmWatch(
            trainer.config.alarms, critic_warmup=trainer.config.critic_warmup_iterations
        )

    def run(self, log: Log) -> None:
        """Run the iterations that are left; save and leave when a signal comes."""
        found = self._newest()
        if found is None:
            self.samples = self._sample_watched()
        else:
            self._load(found)
            logger.info("PPO goes on after iteration %d", self.trainer.finished_iterations)
        try:
            while self.trainer.finished_iterations < self.trainer.config.iterations:
                if self._stopped:
                    break
                self._iterate(log)
        except DivergedError as error:
            folder = self._checkpoints / "diverged"
            self._write(folder)
            raise DivergedError(
                f"{error}; the state is in {folder}; last metrics: {self.metrics}"
            ) from error
        except Exception:
            raise
        except BaseException:  # a signal: weights are at rest
            with self._interruption.held():
                self._save_interrupted()
            logger.warning(
                "PPO was stopped in iteration %d; its state is saved, a new run goes on from there",
                self.trainer.finished_iterations + 1,
            )
            raise
        if self._stopped:
            self._return_to_checkpoint()

    @property
    def _stopped(self) -> bool:
        """Whether an alarm has ended the run."""
        return bool(self.alarms) and self.trainer.config.alarms.action == "stop"

    def summary(self) -> dict[str, float]:
        """The last monitors, and how often each alarm was raised."""
        raised = Counter(f"alarms/{alarm['name']}" for alarm in self.alarms)
        finished = float(self.trainer.finished_iterations)
        return {**self.metrics, **raised, "iterations": finished}

    def _iterate(self, log: Log) -> None:
        """Run one iteration to its end; a signal strikes before it counts or after it is saved."""
        trainer = self.trainer
        metrics = trainer.learn()
        with self._interruption.held():
            trainer.close(metrics)
            done = trainer.finished_iterations
            alarms = self._watch.look(metrics, done)
            raised = {alarm.name for alarm in alarms}
            metrics |= {f"alarm/{name}": float(name in raised) for name in AlarmWatch.NAMES}
            self.metrics = metrics
            self.alarms += [alarm.as_row() for alarm in alarms]
            log({f"ppo/{name}": value for name, value in metrics.items()}, done)
            for alarm in alarms:
                logger.warning("%s", describe(alarm))
            due = done % trainer.config.checkpoint_iterations == 0
            if (due or done == trainer.config.iterations) and not self._stopped:
                self.samples += self._sample_watched()
                self._save()

    def _return_to_checkpoint(self) -> None:
        """Take back what came after the last checkpoint; nothing to take back to is the start."""
        found = latest(self._checkpoints)
        raised = self.alarms
        if found is None:
            raise DivergedError(
                "PPO was stopped before its first checkpoint by "
                f"{describe(Alarm(**raised[-1]))}; or lower ppo.checkpoint_iterations, or set "
                "ppo.alarms.action to warn"
            )
        self._load(found)
        self.alarms = raised
        logger.warning(
            "PPO ends at iteration %d, the last checkpoint before the alarm",
            self.trainer.finished_iterations,
        )

    def _save(self) -> None:
        folder = self._checkpoints / f"checkpoint-{self.trainer.finished_iterations}"
        self._write(folder)
        seal(folder)
        prune(self._checkpoints, self.trainer.config.checkpoints_kept)
        shutil.rmtree(self._checkpoints / INTERRUPTED, ignore_errors=True)

    def _save_interrupted(self) -> None:
        """Save in the middle of an iteration, beside the last checkpoint."""
        folder = self._checkpoints / INTERRUPTED
        self._write(folder)
        seal(folder)

    def _newest(self) -> Path | None:
        """The last sealed checkpoint, or what an interrupted run saved after it."""
        found, interrupted = latest(self._checkpoints), self._checkpoints / INTERRUPTED
        if not is_intact(interrupted):
            return found
        finished = json.loads((interrupted / SESSION).read_text(encoding="utf-8"))["finished"]
        older = found is not None and int(found.name.rpartition("-")[2]) > finished
        return found if older else interrupted

    def _write(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # an older one must not lend its seal
        folder.mkdir(parents=True)
        torch.save(self.trainer.state_dict(), folder / "state.pt")
        session = {
            "finished": self.trainer.finished_iterations,
            "metrics": self.metrics,
            "samples": self.samples,
            "alarms": self.alarms,
            "watch": self._watch.state_dict(),
        }
        (folder / SESSION).write_text(json.dumps(session), encoding="utf-8")

    def _load(self, folder: Path) -> None:
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        self.trainer.load_state_dict(state)
        session: Mapping[str, Any] = json.loads((folder / SESSION).read_text(encoding="utf-8"))
        self.metrics, self.samples = session["metrics"], session["samples"]
        self.alarms = session["alarms"]
        self._watch.load_state_dict(session["watch"])

    def _sample_watched(self) -> list[dict[str, Any]]:
        """Sample the watched prompts with equal luck each time, so that only the actor differs."""
        if not self._watched:
            return []
        trainer = self.trainer
        completions = sample_completions(
            trainer.networks.actor,
            encode_to_fit(self._tokenizer, trainer.networks.actor, self._watched, trainer.sampling),
            sampling=trainer.sampling,
            eos_token_id=trainer.eos_token_id,
            generator=torch.Generator().manual_seed(derive_seed(trainer.seed, "ppo.watched")),
        )
        return [
            {
                "iteration": trainer.finished_iterations,
                "prompt": prompt if isinstance(prompt, str) else prompt[-1]["content"],
                "completion": decode_completion(self._tokenizer, completion.token_ids),
                "finished": completion.finished,
            }
            for prompt, completion in zip(self._watched, completions, strict=True)
        ]
