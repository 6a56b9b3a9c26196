"""What PPO can be told. Imports no torch, so that forms and the command line start fast."""

from pydantic import Field, model_validator

from models.configs.base import Config

__all__ = ["PPOConfig"]


class PPOConfig(Config):
    """Proximal policy optimisation of the actor against a frozen reward model."""

    iterations: int = Field(
        default=40, ge=1, title="Iterations", description="Rollouts collected and learned from."
    )
    rollout_size: int = Field(
        default=128, ge=1, title="Rollout size", description="Completions of one rollout."
    )
    ppo_epochs: int = Field(
        default=2, ge=1, title="PPO epochs", description="Passes over each rollout."
    )
    minibatch_size: int = Field(
        default=64,
        ge=1,
        title="Minibatch size",
        description="Completions an optimiser step; must divide the rollout size.",
    )
    microbatch_tokens: int = Field(
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
    gamma: float = Field(default=1.0, gt=0, le=1, title="Gamma", description="Discount.")
    gae_lambda: float = Field(
        default=0.95, ge=0, le=1, title="GAE lambda", description="Bias against variance."
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
        description="Inner epochs end when the policy moved this far from the rollout's.",
    )
    missing_eos_penalty: float = Field(
        default=3.0,
        ge=0,
        title="Missing-EOS penalty",
        description="Taken off the normalised score of a completion cut at the length limit.",
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, title="Gradient clipping", description="Largest global gradient norm."
    )
    checkpoint_iterations: int = Field(
        default=10, ge=1, title="Checkpoint every", description="Iterations."
    )

    @model_validator(mode="after")
    def _minibatches_divide(self) -> "PPOConfig":
        if self.rollout_size % self.minibatch_size:
            divisors = [n for n in range(1, self.rollout_size + 1) if self.rollout_size % n == 0]
            near = sorted(sorted(divisors, key=lambda n: abs(n - self.minibatch_size))[:3])
            raise ValueError(
                f"minibatch_size {self.minibatch_size} does not divide rollout_size "
                f"{self.rollout_size}; choose {', '.join(map(str, near[:-1]))} or {near[-1]}"
                if len(near) > 1
                else f"minibatch_size {self.minibatch_size} exceeds rollout_size "
                f"{self.rollout_size}; choose {near[0]}"
            )
        return self
