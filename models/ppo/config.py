"""What PPO can be told. Imports no torch, so that forms and the command line start fast."""

from typing import Literal

from pydantic import Field, model_validator

from models.config import Config


class LoRAConfig(Config):
    """Low-rank adapters on every linear layer of the actor; the reference is the actor without."""

    rank: int = Field(default=16, ge=1, title="Rank", description="Width of the adapters.")
    alpha: float = Field(
        default=32.0, gt=0, title="Alpha", description="The adapters' output times alpha / rank."
    )


class AlarmConfig(Config):
    """Bounds beyond which training looks unhealthy. The first iteration is the yardstick."""

    action: Literal["warn", "stop"] = Field(
        default="warn",
        title="On an alarm",
        description="Warn and go on, or end and publish the last checkpoint before the alarm.",
    )
    max_kl: float = Field(
        default=50.0,
        gt=0,
        title="Highest KL",
        description="Nats a completion from the reference.",
    )
    length_factor: float = Field(
        default=2.0,
        gt=1,
        title="Length drift",
        description="Mean completion length may grow or shrink by this factor.",
    )
    eos_rate_drift: float = Field(
        default=0.3,
        gt=0,
        le=1,
        title="EOS-rate drift",
        description="The share of completions that end by themselves may move this far.",
    )
    min_entropy_share: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        title="Entropy collapse",
        description="Entropy may fall to this share of the first iteration's.",
    )
    critic_patience: int = Field(
        default=10,
        ge=1,
        title="Critic patience",
        description="Iterations in a row with a negative explained variance.",
    )
    distinct_drop: float = Field(
        default=0.5,
        gt=0,
        le=1,
        title="Diversity drop",
        description="Share of distinct-2 that may be lost while the score rises.",
    )


class PPOConfig(Config):
    """Proximal policy optimisation of the actor against a frozen reward model."""

    iterations: int = Field(
        default=40, ge=1, title="Iterations", description="Rollouts collected and learned from."
    )
    rollouts_per_iteration: int = Field(
        default=128, ge=1, title="Rollouts an iteration", description="Completions sampled."
    )
    ppo_epochs: int = Field(
        default=2, ge=1, title="PPO epochs", description="Passes over each iteration's rollouts."
    )
    rollouts_per_minibatch: int = Field(
        default=64,
        ge=1,
        title="Rollouts a minibatch",
        description="Of one optimiser step; must divide the rollouts an iteration.",
    )
    tokens_per_microbatch: int = Field(
        default=16384,
        ge=1,
        title="Tokens a micro-batch",
        description="Most tokens of one forward and backward pass; bounds memory, not the result.",
    )
    actor_learning_rate: float = Field(
        default=5e-4, gt=0, title="Actor learning rate", description="Falls linearly to 10%."
    )
    critic_learning_rate: float = Field(
        default=5e-4, gt=0, title="Critic learning rate", description="Constant."
    )
    critic_warmup_iterations: int = Field(
        default=2,
        ge=0,
        title="Critic warm-up",
        description="First iterations in which only the critic learns.",
    )
    kl_coef: float = Field(
        default=0.05,
        ge=0,
        title="KL coefficient",
        description="Weight of the per-token KL penalty towards the reference.",
    )
    kl_target: float | None = Field(
        default=None,
        gt=0,
        title="KL target",
        description="Nats a completion that an adaptive coefficient aims at; fixed without.",
    )
    kl_horizon: int = Field(
        default=10_000,
        ge=1,
        title="KL horizon",
        description="Rollouts over which the adaptive coefficient reacts.",
    )
    gamma: float = Field(default=1.0, gt=0, le=1, title="Gamma", description="Discount.")
    gae_lambda: float = Field(
        default=0.95, ge=0, le=1, title="GAE lambda", description="Bias against variance."
    )
    whiten_advantages: bool = Field(
        default=True,
        title="Whiten advantages",
        description="To mean 0 and variance 1 over all tokens of an iteration.",
    )
    clip_range: float = Field(
        default=0.2, gt=0, title="Clip range", description="Of the probability ratio."
    )
    value_clip_range: float = Field(
        default=0.2, gt=0, title="Value clip range", description="Of the critic's step."
    )
    value_coef: float = Field(
        default=0.5, gt=0, title="Value coefficient", description="Weight of the critic's loss."
    )
    entropy_coef: float = Field(
        default=0.0, ge=0, title="Entropy coefficient", description="Weight of the entropy bonus."
    )
    max_approx_kl: float = Field(
        default=0.2,
        gt=0,
        title="Early stop at KL",
        description="Inner epochs end when the policy moved this far from the sampling one.",
    )
    score_clip: float | None = Field(
        default=None,
        gt=0,
        title="Score clamp",
        description="Normalised scores are held within plus and minus this.",
    )
    missing_eos_penalty: float = Field(
        default=3.0,
        ge=0,
        title="Missing-EOS penalty",
        description="Taken off the normalised score of a completion cut at the length limit.",
    )
    ptx_coef: float = Field(
        default=0.0,
        ge=0,
        title="PTX coefficient",
        description="Weight of the pretraining loss in the actor's step; 0 leaves it out.",
    )
    ptx_rows: int = Field(
        default=16,
        ge=1,
        title="PTX rows",
        description="Corpus blocks of 128 tokens an optimiser step.",
    )
    ema_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        title="EMA decay",
        description="Of the actor's moving average, an optimiser step; 0 keeps none.",
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, title="Gradient clipping", description="Largest global gradient norm."
    )
    lora: LoRAConfig | None = Field(
        default=None, title="LoRA", description="Train adapters of the actor only."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        title="Precision",
        description="Of forward passes: bfloat16 where a GPU has it. Logprobs stay float32.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        title="Gradient checkpointing",
        description="Compute activations twice instead of keeping them.",
    )
    checkpoint_iterations: int = Field(
        default=10, ge=1, title="Checkpoint every", description="Iterations."
    )
    checkpoints_kept: int = Field(
        default=2, ge=1, title="Checkpoints kept", description="Older ones are deleted."
    )
    alarms: AlarmConfig = Field(
        default_factory=AlarmConfig, title="Alarms", description="When training looks unhealthy."
    )

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
