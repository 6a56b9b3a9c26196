"""Running Quartet on a machine.

`up` starts servers and worker; `servers` says which, and how people log in; `status` and `doctor`
look at them; `deployments` writes prefect.yaml, each as `deployment` lays it out;
`joining` lends processes to another host;
`registration` makes pool, deployments and automations (a folder of YAML) known to Prefect; `lost`
ends the runs of machines that are gone.
"""
