"""The loop around the PPO trainer: logging, alarms, samples, checkpoints and resuming.

Every member of a team goes through it and knows the same; the first writes.
"""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from models.checkpoints import is_intact, latest, prune, seal
from models.distributed.team import current_team
from models.errors import DivergedError, RolloutError
from models.language.generation import encode_to_fit, sample_completions
from models.language.tokenizer import decode_completion
from models.ppo.alarms import Alarm, AlarmWatch, describe
from models.ppo.trainer import PPOTrainer
from models.randomness import derive_seed
from models.runtime import TrainingRun

logger = logging.getLogger(__name__)

SESSION = "session.json"
INTERRUPTED = "interrupted"
"""Folder of a checkpoint that was taken in the middle of an iteration."""


class Session:
    """One training from its first or last saved iteration to its end, and what it recorded."""

    def __init__(
        self, trainer: PPOTrainer, tokenizer: Any, watched: Sequence[Any], run: TrainingRun
    ) -> None:
        self.trainer = trainer
        self.metrics: dict[str, float] = {}
        self.samples: list[dict[str, Any]] = []
        self.alarms: list[dict[str, Any]] = []
        self._tokenizer = tokenizer
        self._watched = watched
        self._checkpoints = run.checkpoints
        self._log = run.log
        config = trainer.config
        self._watch = AlarmWatch(
            config.alarms,
            rollouts=config.rollouts_per_iteration,
            critic_warmup=config.critic_warmup_iterations if config.uses_critic else None,
            iterations=config.samples_per_prompt,  # as many prompts as without groups
        )

    def run(self) -> None:
        """Run the iterations that are left; save and exit on a signal.

        Raises:
            DivergedError: A loss or a gradient is not finite, or an alarm ended the run before
                its first checkpoint.
        """
        trainer = self.trainer
        found = self._newest()
        if found is None:
            self.samples = self._sample_watched()
        else:
            self._load(found)
            logger.info("PPO resumes after iteration %d", trainer.finished_iterations)
        try:
            while trainer.finished_iterations < trainer.config.iterations and not self._stopped:
                trainer.step(self._record)
        except DivergedError as error:
            folder = self._checkpoints / "diverged"
            self._write(folder, sealed=False)
            raise DivergedError(
                f"{error}; the state is in {folder}; last metrics: {self.metrics}"
            ) from error
        except RolloutError:  # between two iterations
            self._write(self._checkpoints / INTERRUPTED)
            raise
        except Exception:
            raise
        except BaseException:  # a signal: no weight is moving
            with trainer.interruption.held():
                self._write(self._checkpoints / INTERRUPTED)
            logger.warning(
                "PPO was stopped in iteration %d; its state is saved, and a new run resumes there",
                trainer.finished_iterations + 1,
            )
            raise
        if self._stopped:
            self._return_to_checkpoint()

    @property
    def _stopped(self) -> bool:
        return bool(self.alarms) and self.trainer.config.alarms.action == "stop"

    def summary(self) -> dict[str, float]:
        """The last monitors, and how often each alarm was raised."""
        raised = Counter(f"alarms/{alarm['name']}" for alarm in self.alarms)
        finished = float(self.trainer.finished_iterations)
        return {**self.metrics, **raised, "iterations": finished}

    def _record(self, metrics: dict[str, float]) -> None:
        config, finished = self.trainer.config, self.trainer.finished_iterations
        alarms = self._watch.look(metrics, finished)
        raised = {alarm.name for alarm in alarms}
        self.metrics = metrics | {f"alarm/{one}": float(one in raised) for one in self._watch.names}
        self.alarms += [asdict(alarm) for alarm in alarms]
        if current_team().leads:
            self._log({f"ppo/{name}": value for name, value in self.metrics.items()}, finished)
        for alarm in alarms:
            logger.warning("%s", describe(alarm))
        due = finished % config.checkpoint_iterations == 0 or finished == config.iterations
        if due and not self._stopped:
            self.samples += self._sample_watched()
            self._save()

    def _return_to_checkpoint(self) -> None:
        """Restore the last checkpoint, with the alarms raised since."""
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
        self._write(self._checkpoints / f"checkpoint-{self.trainer.finished_iterations}")
        if current_team().keeps:
            prune(self._checkpoints, self.trainer.config.checkpoints_kept)
            shutil.rmtree(self._checkpoints / INTERRUPTED, ignore_errors=True)

    def _newest(self) -> Path | None:
        """The last sealed checkpoint, or what an interrupted run saved after it."""
        found, interrupted = latest(self._checkpoints), self._checkpoints / INTERRUPTED
        if not is_intact(interrupted):
            return found
        finished = json.loads((interrupted / SESSION).read_text(encoding="utf-8"))["finished"]
        older = found is not None and int(found.name.rpartition("-")[2]) > finished
        return found if older else interrupted

    def _write(self, folder: Path, *, sealed: bool = True) -> None:
        """Write where the training is, once on each host, while the others wait."""
        team = current_team()
        state = self.trainer.state_dict()
        if team.keeps:
            shutil.rmtree(folder, ignore_errors=True)  # an older one must not lend its seal
            folder.mkdir(parents=True)
            torch.save(state, folder / "state.pt")
            session = {
                "finished": self.trainer.finished_iterations,
                "metrics": self.metrics,
                "samples": self.samples,
                "alarms": self.alarms,
                "watch": self._watch.state_dict(),
            }
            (folder / SESSION).write_text(json.dumps(session), encoding="utf-8")
            if sealed:
                seal(folder)
        team.wait()

    def _load(self, folder: Path) -> None:
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        self.trainer.load_state_dict(state)
        session: Mapping[str, Any] = json.loads((folder / SESSION).read_text(encoding="utf-8"))
        self.metrics, self.samples = session["metrics"], session["samples"]
        self.alarms = session["alarms"]
        self._watch.load_state_dict(session["watch"])

    def _sample_watched(self) -> list[dict[str, Any]]:
        """Sample the watched prompts with the same seed each time: only the actor differs."""
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
                "completion": decode_completion(self._tokenizer, completion.token_ids, prompt),
                "finished": completion.finished,
            }
            for prompt, completion in zip(self._watched, completions, strict=True)
        ]
