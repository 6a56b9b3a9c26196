"""Tracked steps around models/, in rooms; a room imports lower floors only.

    promotion                  who meets whom, the alias, its approval
    stages · comparison        the boxes of the pipeline; runs side by side
    reports                    views of results: Markdown and pictures
    judging · registry         who scores or compares; registered models
    labelling                  people compare completions in MLflow's review queues
    preview                    data as a model sees them, before anything is run
    run · upkeep               what every stage does around its training; garbage, killed runs
    data · tracking            canonical datasets; all that is asked of MLflow
    machine · results · world  this machine; what is published; the embedded world

On the ground lie `catalogue`, the one table of stages (a folder), `settings`, read from the
environment, and `escaping` of foreign text.
"""
