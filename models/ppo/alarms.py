"""Alarms: signs in the monitors that PPO goes wrong, above all that it hacks the reward.

One iteration's monitors are checked against bounds and against the first iteration; the caller
decides what an alarm leads to. The whole state is a small dict of numbers, so that a resumed run
raises the same alarms.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.ppo.config import AlarmConfig

RAISED = "ppo/alarms/"
"""Of the final metrics that count in how many iterations an alarm was raised."""

STANDARD_ERRORS = 4.0
"""A mean KL of many rollouts this many standard errors below zero is no accident of sampling; of
few, as many as are as improbable: once in 30,000 iterations."""

LEAST_SPREAD_TOKENS, LEAST_SPREAD_EOS = 2.0, 0.2
"""Spreads that completions are taken to have where all are as long, or all end: 0.2 is that of a
share of 96%."""

ROUNDING = 1e-3
"""Nats per completion that equal models may differ by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm.

    Attributes:
        name: Short, as in the metric `alarm/<name>`.
        iteration: In which it was raised, from 1.
        metric: The monitor that tripped.
        bound: That it should have kept.
    """

    name: str
    iteration: int
    metric: str
    value: float
    bound: float


class AlarmWatch:
    """Checks every iteration's monitors and remembers the first one's.

    Attributes:
        names: Of the alarms that can be raised here.
    """

    NAMES = (
        *("kl_negative", "kl_high", "sampler", "length", "eos_rate", "entropy", "critic"),
        "hacking",
    )

    def __init__(
        self,
        config: AlarmConfig,
        *,
        rollouts: int,
        critic_warmup: int | None,
        iterations: int = 1,
    ) -> None:
        """Watch a training.

        Args:
            rollouts: Of an iteration, of which the monitors are means.
            critic_warmup: Iterations that the critic learns alone; None where there is no critic.
            iterations: So many together, the last ones, are compared with the first one: with few
                prompts in each, one alone differs by chance.
        """
        self.names = tuple(n for n in self.NAMES if n != "critic" or critic_warmup is not None)
        self._config = config
        self._rollouts = rollouts
        self._critic_warmup = critic_warmup
        self._iterations = iterations
        self._first: dict[str, float] = {}
        self._recent: list[dict[str, float]] = []
        self._critic_negative = 0

    def look(self, metrics: Mapping[str, float], iteration: int) -> list[Alarm]:
        """Check the monitors of one iteration, numbered from 1."""
        self._recent.append({name: metrics[f"objective/{name}"] for name in YARDSTICKS})
        self._first = self._first or self._recent[0]
        self._recent = self._recent[-self._iterations :]
        if self._critic_warmup is not None:
            negative = metrics["value/explained_variance"] < 0 and iteration > self._critic_warmup
            self._critic_negative = self._critic_negative + 1 if negative else 0
        return [
            Alarm(name=name, iteration=iteration, metric=metric, value=value, bound=bound)
            for name, metric, value, bound in self._broken({**metrics, **self._means()})
        ]

    def _means(self) -> dict[str, float]:
        return {
            f"objective/{name}": sum(one[name] for one in self._recent) / len(self._recent)
            for name in YARDSTICKS
        }

    def _broken(self, metrics: Mapping[str, float]) -> Iterator[tuple[str, str, float, float]]:
        """Name, metric, value and bound of every alarm."""
        config, first = self._config, self._first
        kl = metrics["objective/kl_to_reference"]
        lowest = lowest_kl(metrics["objective/kl_standard_error"], self._rollouts)
        if kl < lowest:
            yield "kl_negative", "objective/kl_to_reference", kl, lowest
        if kl > config.max_kl:
            yield "kl_high", "objective/kl_to_reference", kl, config.max_kl
        error = metrics["objective/sampler_error"]
        if error > config.max_sampler_error:
            yield "sampler", "objective/sampler_error", error, config.max_sampler_error
        yield from self._drifted(metrics)
        entropy, floor = metrics["objective/entropy"], first["entropy"] * config.min_entropy_share
        if entropy < floor:
            yield "entropy", "objective/entropy", entropy, floor
        if self._critic_negative >= config.critic_patience:
            yield "critic", "value/explained_variance", metrics["value/explained_variance"], 0.0
        distinct = metrics["objective/distinct_2"]
        floor = first["distinct_2"] * (1.0 - config.distinct_drop)
        if distinct < floor and metrics["objective/score"] > first["score"]:
            yield "hacking", "objective/distinct_2", distinct, floor

    def _drifted(self, metrics: Mapping[str, float]) -> Iterator[tuple[str, str, float, float]]:
        """Compare length and ending with the first iteration's, whose actor is the SFT model."""
        first = self._first
        spreads = {
            "completion_tokens": max(first["completion_tokens_std"], LEAST_SPREAD_TOKENS),
            "eos_rate": max(
                math.sqrt(first["eos_rate"] * (1 - first["eos_rate"])), LEAST_SPREAD_EOS
            ),
        }
        for yardstick, spread in spreads.items():
            metric, usual = f"objective/{yardstick}", first[yardstick]
            change = metrics[metric] - usual
            most = self._config.max_drift * spread
            if abs(change) > most:
                bound = usual + math.copysign(most, change)
                yield DRIFTS[yardstick], metric, metrics[metric], bound

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs."""
        return {
            "first": self._first,
            "recent": self._recent,
            "critic_negative": self._critic_negative,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self._first, self._recent = dict(state["first"]), list(state["recent"])
        self._critic_negative = state["critic_negative"]


def lowest_kl(standard_error: float, rollouts: int) -> float:
    """The mean KL below which a rollout has it by no accident; minus infinity of one completion.

    Args:
        standard_error: By the standard deviation of the rollouts, which divides by their number:
            the sample's is sqrt(n / (n - 1)) times as large. Of few rollouts it is small by chance
            as well, which Student's t allows for.
    """
    from scipy.special import ndtr, stdtrit  # slow to import: only where something is measured

    if rollouts < 2:
        return -math.inf
    least = float(stdtrit(rollouts - 1, ndtr(-STANDARD_ERRORS)))  # errors, below 0
    return min(least * math.sqrt(rollouts / (rollouts - 1)) * standard_error, -ROUNDING)


DRIFTS = {"completion_tokens": "length", "eos_rate": "eos_rate"}
"""Alarms of drift by what drifts."""

YARDSTICKS = (*DRIFTS, "completion_tokens_std", "entropy", "distinct_2", "score")

MEANINGS = {
    "kl_negative": "a KL cannot be negative: logprobs of actor and reference belong to different "
    "distributions (mask, temperature or precision)",
    "kl_high": "the actor left the SFT model: raise ppo.kl_coef, set ppo.kl_target or lower "
    "ppo.actor_learning_rate",
    "sampler": "completions came from another distribution than the actor's: see that the rollout "
    "server has this model's weights, gives logprobs after temperature, and cuts no tokens off",
    "length": "completions become longer or shorter than the SFT model's, which the verdict weighs "
    "at equal length only: see in reward-quality what the score hangs on, read the samples, raise "
    "ppo.kl_coef, or lower ppo.missing_eos_penalty if they only end earlier",
    "eos_rate": "completions end by themselves more or less often than the SFT model's, which the "
    "verdict weighs at equal ending only: look at ppo.missing_eos_penalty and "
    "sampling.max_completion_tokens",
    "entropy": "the actor has become nearly deterministic: raise ppo.kl_coef or ppo.entropy_coef",
    "critic": "the critic predicts worse than a constant: raise ppo.critic_warmup_iterations or "
    "lower ppo.critic_learning_rate",
    "hacking": "the score rises while completions become alike, which is how reward hacking looks: "
    "raise ppo.kl_coef, read the samples",
}


def describe(alarm: Alarm) -> str:
    """Describe in one line the monitor, the probable cause and the remedy."""
    return (
        f"alarm {alarm.name} in iteration {alarm.iteration}: {alarm.metric} is {alarm.value:.4g}, "
        f"its bound {alarm.bound:.4g}; {MEANINGS[alarm.name]}"
    )


def raised_alarms(metrics: Mapping[str, float]) -> dict[str, int]:
    """In how many iterations each alarm was raised, from a PPO stage's final metrics."""
    return {
        name.removeprefix(RAISED): int(count)
        for name, count in sorted(metrics.items())
        if name.startswith(RAISED)
    }
