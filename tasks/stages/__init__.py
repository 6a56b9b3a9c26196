"""The boxes of the pipeline, one a file: what a stage is and what it trains.

`prepare`, `tokenizer`, `pretrain`, `sft`, `feedback` (or, by people, `feedback_samples` and
`labels`), `reward` (with the judge), `reward_quality`, `ppo` or one of `alternatives`,
`evaluate`; beside the pipeline `adopt`, `evaluate_models`, `challenge`, `multiple_choice`,
`lm_eval`. `resolve` finds models by name;
`templates` checks that a chat template renders all rows. `foundations` has the stages of its own
flow.

Parameters that stages have in common, explained here only:

    config      the stage's slice of the pipeline's parameters
    sampling    temperature and longest completion of what is sampled
    pipeline    the run that asks for the result
    data        the prepared datasets
    tokenizer, base, sft, reward, ppo
                the published model of that stage
    judge       the held-out reward model, where there is one
    gold        whether the embedded world's gold judge can judge these prompts
"""
