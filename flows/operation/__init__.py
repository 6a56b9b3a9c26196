"""Running Quartet on a machine: start it, watch it, check it, register its deployments."""
