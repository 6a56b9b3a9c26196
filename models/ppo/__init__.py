"""PPO with its four models: actor, critic, reference and reward model."""
