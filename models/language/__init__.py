"""Language models.

`tokenizer`, `architectures`, `folders` (complete model folders), `adoption` of foreign models;
`packing` and `decoding_cache` (no padding); `sequences` and their logprobs; `generation`,
`scoring` by reward models, `likelihood`, `chat`; `config`.
"""
