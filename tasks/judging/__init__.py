"""Whoever scores or compares completions, behind one interface.

`judges` has them all but `endpoint`, a language model behind an API, and `people`, who vote in
MLflow's review queues; `prompts` draws what is asked;
`evaluation` is the body of every stage that evaluates, and proves judges independent; `possible`
refuses decisions that cannot pass; `config`.
"""
