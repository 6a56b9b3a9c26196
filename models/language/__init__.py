"""Language models.

`tokenizer`, `vocabulary` (what it is learned from), `rendering` of chat templates within limits,
`architectures`; `token_files` (a corpus as tokens); `folders` (complete model folders), `screening`
of what is in them, `reading` by libraries, `adoption` of foreign models; `packing` and
`decoding_cache` (no padding); `sequences` and their logprobs; `generation`, `scoring` by reward
models, `likelihood`, `chat`; `config`.
"""
