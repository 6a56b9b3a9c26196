"""The `quartet` command, one module per family of commands.

`app`: up, status, doctor, sync, and errors in one line. `run`: the pipeline, or `foundations`.
`presets`: what there is, and values. `improve`: rounds. `evaluate`: evaluate, benchmark, compare.
`registry`: promote, rollback, lineage, gc. `use`: chat, serve. `check`: what files are, with
`check_report` and `rows`, coloured. `plan`: what a run will do; `report`: what a finished one
prints, with `links`. `prefect_runs`: an API and a note for commands that run flows. `environment`:
what libraries read from it. `terminal`: all that is printed passes it. `arguments`: what no path,
name or text can be.
"""
