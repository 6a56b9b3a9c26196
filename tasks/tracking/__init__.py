"""All that is asked of MLflow.

`client`: runs, metrics, artifacts, searches; `queries`: their filters and pages. `database`: the
local one, made in one step; `files`: where those of runs lie. `metrics` on their way, and the
machine's load.
`recording` of results and pages, `facts` about cost and hardware, `datasets` as inputs.
`views` of the list of runs, the best first; `reviews`, the queues in which people answer.
`removal`: runs and weights that it has no more.
`outages`: notes of what could not be recorded, and `sync`, which delivers them.
`server` is MLflow's own, closed to pages of other origins; `lazy` imports the package when needed.
"""
