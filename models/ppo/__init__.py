"""PPO with its four models: actor, critic, reference and reward model.

`trainer` has the iteration: `rollout`, `importance`, `advantages`, `losses`, `updates` in
`microbatches`; its state is `iteration`. `networks` loads the four; `side_by_side` moves actor and
critic at once; `ptx` mixes pretraining in. `session` logs, saves and resumes; `alarms` watch; `run`
goes from folders to folders; `config`.
"""
