"""Questions with known answers.

`questions` reads them, `multiple_choice` answers and counts, `answering` has models do it,
`continuations` sums logprobs; `in_context` asks tasks by prompts with examples; `config`.
"""
