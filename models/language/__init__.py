"""Language models.

`tokenizer`, `frames` of chat templates and their `rendering` within limits; `examples` (rows as
tokens), `encoded_rows` (files of them) and `views`; `folders` (complete model folders), `screening`
of what is in them, `reading` by libraries; `packing`, `decoding` and `decoding_cache` (no padding
where a model allows it); `sequences` and their logprobs; `generation`, `scoring` by reward models,
`likelihood`, `chat`; `config`.
"""
