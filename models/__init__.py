"""Training, sampling and evaluation: torch, transformers, TRL. No orchestration, no tracking.

Rooms: `distributed` (several processes; signals that wait), `statistics` and `yardsticks` (models
from before the Transformer); on them `families` (networks from scratch), then `language`; on it
`adoption` (of models from elsewhere) and `objectives` (masks and noise); then `training`,
`evaluation` and `rollouts`; on those `reward`, `ppo`, `benchmarks`, `heads` (fine-tuning for
understanding) and `translation`. The ground: `errors`, `config` (base of configs), `rows` (files of
rows), `preference_shares` (reward model's and judge's), `kept_files` (a cache), `token_files` (a
corpus as tokens), `spaces` (that tokenizers add), `files` (those that people give), `display` (of
foreign text), `progress`, `randomness`, `heap` (memory that is kept), `runtime` (device,
`TrainingRun`), `checkpoints`, `transport` (requests to servers), `unfit` (what is no model).
"""
