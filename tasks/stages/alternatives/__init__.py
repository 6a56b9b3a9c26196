"""Stages that align in PPO's place: `dpo` on the preferences, `best_of_n` by SFT."""
