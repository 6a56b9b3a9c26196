"""Questions with known answers.

`questions` reads them, `multiple_choice` answers and counts, `continuations` sums logprobs;
`config`.
"""
