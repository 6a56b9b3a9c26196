"""What every stage does around its training; knows no stage by name.

`stage` finds, computes and publishes a result, for which a training gets a `workspace`, and
`stage_task` makes it Prefect's task; `learning` calls it, in as many processes as `scale` says;
`planning` lets it only foretell one; `spec` is what a stage is, and its page; `record` is its
MLflow run and `pipeline` the parent; `spent` sums its attempts; `exchange` fetches what another
machine made; `reporting` speaks with Prefect, `overview` is a run's report and bar there, made of
`cards`, and `logs` speaks with the terminal; `device_slot` lets one training at a time have a
device; `rollout_server` is who samples for one; `faults` says in a sentence what others raise.
"""
