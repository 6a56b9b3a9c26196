"""PPO with its models: actor, reference, reward model and, unless groups replace it, a critic.

`trainer` has the iteration: `rollout`, `importance`, `advantages`, `losses`, `updates` in
`microbatches`; its state is `iteration`. `networks` loads them, `prompts` the prompts;
`side_by_side` moves actor and critic at once; `ptx` mixes pretraining in. `session` logs, saves and
resumes; `alarms` watch; `run` goes from folders to folders; `config`.
"""
