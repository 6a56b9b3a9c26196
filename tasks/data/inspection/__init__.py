"""The quality report's numbers: what a look at the written datasets adds.

`inspector` reads the eight files once and fills the `records`. `sampling` bounds what is read;
`texts` says what is compared; `words`, `sketches` and `near` find texts that are alike, `repeats`
counts them; `lengths`, `pairs` and `languages` count the rest. `findings` says what it means, with
what `balance` says of lengths, judgements, languages and tokens.
"""
