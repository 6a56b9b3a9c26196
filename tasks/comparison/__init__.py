"""Runs side by side: their data, statistics, plots and the page.

Records: `runs` (a run, its curves, what its evaluation published). Findings: `statistics` (win
rates, the best run), `tables`. Pictures: `frontier` and `plots`. `compare`: task and page.
`rounds`: those of a loop, in one run.
"""
