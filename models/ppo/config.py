"""What PPO can be told. Imports no torch, so that forms and the command line start fast."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from models.config import Config, Count, PositiveShare, Share, ShareBelowOne


class LoRAConfig(Config):
    """Low-rank adapters on every linear layer of the actor; the reference is the actor without."""

    rank: Count = 16
    """Width of the adapters."""
    alpha: PositiveFloat = 32.0
    """The adapters' output times alpha / rank."""


class AlarmConfig(Config):
    """Bounds beyond which training looks unhealthy. The first iteration is the yardstick."""

    action: Literal["warn", "stop"] = Field("warn", title="On an alarm")
    """Warn and go on, or end and publish the last checkpoint before the alarm."""
    max_kl: PositiveFloat = Field(50.0, title="Highest KL")
    """Nats a completion from the reference."""
    length_factor: float = Field(2.0, gt=1, title="Length drift")
    """Mean completion length may grow or shrink by this factor."""
    eos_rate_drift: PositiveShare = Field(0.3, title="EOS-rate drift")
    """The share of completions that end by themselves may move this far."""
    min_entropy_share: ShareBelowOne = Field(0.1, title="Entropy collapse")
    """Entropy may fall to this share of the first iteration's."""
    critic_patience: Count = 10
    """Iterations in a row with a negative explained variance."""
    distinct_drop: PositiveShare = Field(0.5, title="Diversity drop")
    """Share of distinct-2 that may be lost while the score rises."""


class PPOConfig(Config):
    """Proximal policy optimisation of the actor against a frozen reward model."""

    iterations: Count = 40
    """Rollouts collected and learned from."""
    rollouts_per_iteration: Count = Field(128, title="Rollouts an iteration")
    """Completions sampled."""
    ppo_epochs: Count = 2
    """Passes over each iteration's rollouts."""
    rollouts_per_minibatch: Count = Field(64, title="Rollouts a minibatch")
    """Of one optimiser step; must divide the rollouts an iteration."""
    tokens_per_microbatch: Count = Field(16384, title="Tokens a micro-batch")
    """Most tokens of one forward and backward pass; bounds memory, not the result."""
    actor_learning_rate: PositiveFloat = 5e-4
    """Falls linearly to 10%."""
    critic_learning_rate: PositiveFloat = 5e-4
    """Constant."""
    critic_warmup_iterations: NonNegativeInt = Field(2, title="Critic warm-up")
    """First iterations in which only the critic learns."""
    kl_coef: NonNegativeFloat = 0.05
    """Weight of the per-token KL penalty towards the reference."""
    kl_target: float | None = Field(None, gt=0)
    """Nats a completion that an adaptive coefficient aims at; fixed without."""
    kl_horizon: Count = 10_000
    """Rollouts over which the adaptive coefficient reacts."""
    gamma: PositiveShare = 1.0
    """Discount."""
    gae_lambda: Share = 0.95
    """Bias against variance."""
    whiten_advantages: bool = True
    """To mean 0 and variance 1 over all tokens of an iteration."""
    clip_range: PositiveFloat = 0.2
    """Of the probability ratio."""
    value_clip_range: PositiveFloat = 0.2
    """Of the critic's step."""
    value_coef: PositiveFloat = 0.5
    """Weight of the critic's loss."""
    entropy_coef: NonNegativeFloat = 0.0
    """Weight of the entropy bonus."""
    max_approx_kl: PositiveFloat = Field(0.2, title="Early stop at KL")
    """Inner epochs end when the policy moved this far from the sampling one."""
    score_clip: float | None = Field(None, gt=0, title="Score clamp")
    """Normalised scores are held within plus and minus this."""
    missing_eos_penalty: NonNegativeFloat = Field(3.0, title="Missing-EOS penalty")
    """Taken off the normalised score of a completion cut at the length limit."""
    ptx_coef: NonNegativeFloat = 0.0
    """Weight of the pretraining loss in the actor's step; 0 leaves it out."""
    ptx_rows: Count = 16
    """Corpus blocks of 128 tokens an optimiser step."""
    ema_decay: ShareBelowOne = 0.0
    """Of the actor's moving average, an optimiser step; 0 keeps none."""
    max_grad_norm: PositiveFloat = Field(1.0, title="Gradient clipping")
    """Largest global gradient norm."""
    lora: LoRAConfig | None = None
    """Train adapters of the actor only."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of forward passes: bfloat16 where a GPU has it. Logprobs stay float32."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them."""
    checkpoint_iterations: Count = Field(10, title="Checkpoint every")
    """Iterations."""
    checkpoints_kept: Count = 2
    """Older ones are deleted."""
    alarms: AlarmConfig = Field(default_factory=AlarmConfig)
    """When training looks unhealthy."""

    @model_validator(mode="after")
    def _minibatches_divide(self) -> "PPOConfig":
        whole, part = self.rollouts_per_iteration, self.rollouts_per_minibatch
        if whole % part:
            divisors = [n for n in range(1, whole + 1) if whole % n == 0]
            near = sorted(sorted(divisors, key=lambda n: abs(n - part))[:3])
            fault = "exceeds" if part > whole and len(near) == 1 else "does not divide"
            choice = " or ".join(filter(None, [", ".join(map(str, near[:-1])), str(near[-1])]))
            raise ValueError(
                f"rollouts_per_minibatch {part} {fault} rollouts_per_iteration {whole}; "
                f"choose {choice}"
            )
        return self
