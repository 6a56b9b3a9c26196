"""Views: records in, Markdown and pictures out. Never part of a digest.

One module per page: `data` (with `data_tables` and `data_plots`), `feedback`, `reward` (with
`reward_plots`), `pretraining`, `ppo`, `evaluation` (with `win_rates`), `rounds`, `benchmarks`,
`lineage`. `training` draws curves and distributions, `length_plot` a gain against length; `style`
has colours, axes and tables; `foundations` has the views of its own flow.
"""
