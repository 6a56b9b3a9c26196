"""Runs side by side: their data, statistics, plots and the page.

Records: `finding` (by what people name), `runs` (a run, its curves, its evaluation). Findings:
`statistics` (win rates, the best run), `tables`. Pictures: `frontier` and `plots`. `compare`: task
and page. `rounds`: those of a loop, in one run.
"""
