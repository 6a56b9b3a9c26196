"""Running Quartet on a machine.

`up` starts servers and worker; `status` and `doctor` look at them; `deployments` writes
prefect.yaml; `registration` makes pool, deployments and automations known to Prefect.
"""
