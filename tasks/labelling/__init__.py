"""People compare completions in MLflow's review queues.

`items`: what is asked, a prompt and several completions; `assignment`: whom; `shown`: as what text;
`queue` puts them before people; `answers` reads what they said as labels; `agreement`: how far they
agree; `pairs` makes preferences of labels; `rounds`: what earlier rounds gave, and which prompts
are asked about next; `waiting` is for answers that are missing.
"""
