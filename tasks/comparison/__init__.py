"""Runs side by side: their data, statistics, plots and the page.

Records: `runs` (a run and its curves), `evaluation` (what an evaluation published). Findings:
`statistics` (win rates, the best run), `tables`. Views: `frontier` and `plots` (pictures), `page`
(HTML and Markdown). `compare` is the task.
"""
