"""PPO's parameters. Imports no torch, so that forms and the command line start fast."""

from typing import Literal

from pydantic import Field, model_validator

from models.config import (
    BatchSize,
    Config,
    Count,
    CountOrZero,
    LearningRate,
    Positive,
    PositiveOrZero,
    PositiveShare,
    Precision,
    Share,
    ShareBelowOne,
    Steps,
)
from models.language.config import LoRAConfig


class AlarmConfig(Config):
    """Bounds of healthy training; drift is measured against the first iteration."""

    action: Literal["warn", "stop"] = "warn"
    """warn: log and continue; stop: end and publish the last checkpoint before the alarm."""
    max_kl: Positive = 50.0
    """Nats per completion from the reference."""
    max_drift: Positive = 0.5
    """Standard deviations of the SFT model's completions by which their mean length, and the share
    of them that ends by itself, may change."""
    min_entropy_share: ShareBelowOne = 0.1
    """Minimum entropy as a share of the first iteration's."""
    critic_patience: Count = 10
    """Consecutive iterations with negative explained variance."""
    max_sampler_error: Positive = 1.0
    """Nats between a logprob as sampled and as recomputed."""
    distinct_drop: PositiveShare = Field(0.5, title="Distinct-2 drop")
    """Share of distinct-2 that may be lost while the score rises."""


class PPOConfig(Config):
    """Proximal policy optimisation of the actor against a frozen reward model."""

    iterations: Steps = 40
    """Each samples rollouts and learns from them."""
    rollouts_per_iteration: int = Field(128, ge=1, le=1_000_000)
    """Completions sampled in each iteration."""
    ppo_epochs: int = Field(2, ge=1, le=10_000)
    """Passes over the rollouts of each iteration."""
    rollouts_per_minibatch: int = Field(64, ge=1, le=1_000_000)
    """Rollouts per optimiser step; must divide rollouts per iteration."""
    tokens_per_microbatch: Count = 16384
    """Maximum tokens per forward and backward pass; limits memory only."""
    actor_learning_rate: LearningRate = 5e-4
    """Decays linearly to 10%."""
    critic_learning_rate: LearningRate = 5e-4
    """Constant."""
    critic_warmup_iterations: CountOrZero = 2
    """First iterations that train only the critic."""
    kl_coef: PositiveOrZero = 0.05
    """Weight of the per-token KL penalty to the reference."""
    kl_target: float | None = Field(None, gt=0, le=1e9)
    """Nats per completion, target of an adaptive coefficient; none = fixed coefficient."""
    kl_horizon: Count = 10_000
    """Rollouts over which the adaptive coefficient reacts."""
    gamma: PositiveShare = 1.0
    """Discount factor of gae."""
    advantages: Literal["gae", "rloo", "grpo"] = "gae"
    """gae: against the critic's values; rloo, grpo: against the other completions of the same
    prompt, without a critic."""
    group_size: int = Field(8, ge=2, le=1_000_000)
    """Completions per prompt with rloo and grpo; must divide rollouts per iteration."""
    gae_lambda: Share = 0.95
    """Trades bias for variance in generalised advantage estimation."""
    whiten_advantages: bool = True
    """To mean 0 and variance 1 over all tokens of an iteration, with gae."""
    clip_range: Positive = 0.2
    """Of the probability ratio."""
    value_clip_range: Positive = 0.2
    """Of the change of the value estimate."""
    value_coef: Positive = 0.5
    """Weight of the value loss."""
    entropy_coef: PositiveOrZero = 0.0
    """Weight of the entropy bonus."""
    max_approx_kl: Positive = 0.2
    """KL to the sampling policy at which the PPO epochs of an iteration stop early."""
    score_clip: float | None = Field(None, gt=0, le=1e9)
    """Clips normalised scores to plus and minus this; none = no clipping."""
    missing_eos_penalty: PositiveOrZero = 3.0
    """Subtracted from the normalised score of a completion cut at the maximum length. Of four ways
    tried where a third are cut, only this kept length and ending with every seed."""
    overlong_tokens: CountOrZero = 0
    """Last tokens before the maximum over which that penalty grows from 0, for completions that end
    as well; 0 = only those that are cut pay it."""
    learn_from_cut: bool = Field(True, title="Learn from cut completions")
    """Off: the policy learns nothing from completions cut at the maximum length, good or bad; the
    critic does. With a pretrained model of which a fifth are cut, this alone kept their length."""
    ptx_coef: PositiveOrZero = 0.0
    """Weight of the pretraining loss in the actor's update; 0 = none."""
    ptx_rows: BatchSize = 16
    """Corpus blocks of 128 tokens per optimiser step."""
    ema_decay: ShareBelowOne = 0.0
    """Of the actor's moving average, per optimiser step; 0 = no average."""
    max_grad_norm: Positive = 1.0
    """Clips the global gradient norm."""
    rollout_engine: Literal["in_process", "server"] = "in_process"
    """server: QUARTET_ROLLOUT_SERVER samples, with other rounding; in_process: exact."""
    importance_cap: float = Field(2.0, ge=1, le=1e9)
    """Upper bound of the weights that correct the policy loss for a server's distribution."""
    lora: LoRAConfig | None = None
    """Train only adapters of actor and critic; none = all weights."""
    precision: Precision = "auto"
    """Of the weights; auto = bfloat16 for frozen networks and for computing if the GPU supports it.
    With bfloat16 the optimisers keep float32 masters. Logprobs are float32 always."""
    gradient_checkpointing: bool = False
    """Recompute activations to save memory."""
    checkpoint_iterations: Count = 10
    """Iterations between checkpoints."""
    checkpoints_kept: Count = 2
    """Older ones are deleted."""
    alarms: AlarmConfig = Field(default_factory=AlarmConfig)
    """Bounds beyond which training counts as unhealthy."""

    @model_validator(mode="after")
    def _minibatches_divide(self) -> "PPOConfig":
        whole, part = self.rollouts_per_iteration, self.rollouts_per_minibatch
        if whole % part:
            near = _nearest_divisors(whole, part)
            fault = "exceeds" if part > whole and len(near) == 1 else "does not divide"
            raise ValueError(
                f"rollouts_per_minibatch {part} {fault} rollouts_per_iteration {whole}; "
                f"choose {_either(near)}"
            )
        return self

    @model_validator(mode="after")
    def _groups_divide(self) -> "PPOConfig":
        whole, part = self.rollouts_per_iteration, self.group_size
        if not self.uses_critic and whole % part:
            near = _nearest_divisors(whole, part, least=2)
            raise ValueError(
                f"group_size {part} does not divide rollouts_per_iteration {whole}; "
                f"choose {_either(near) if near else 'more rollouts_per_iteration'}"
            )
        return self

    @property
    def uses_critic(self) -> bool:
        """Whether advantages are measured against a critic's values."""
        return self.advantages == "gae"

    @property
    def samples_per_prompt(self) -> int:
        """Completions of each prompt that an iteration takes."""
        return 1 if self.uses_critic else self.group_size

    @property
    def warmup_iterations(self) -> int:
        """First iterations in which the actor rests."""
        return self.critic_warmup_iterations if self.uses_critic else 0


def _nearest_divisors(whole: int, part: int, *, least: int = 1) -> list[int]:
    """At most three divisors of a number, in their order."""
    divisors = [n for n in range(least, whole + 1) if whole % n == 0]
    return sorted(sorted(divisors, key=lambda n: abs(n - part))[:3])


def _either(numbers: list[int]) -> str:
    *others, last = map(str, numbers)
    return " or ".join(filter(None, [", ".join(others), last]))
