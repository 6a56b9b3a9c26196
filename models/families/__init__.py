"""Networks from scratch, by family.

- `config`: which one and how large; `shapes`: named sizes and published shapes.
- `networks`: transformers' own, built from these.
- `recognition`: models that cannot go through SFT, sampling and PPO.
- `routing`: how evenly a mixture of experts spreads its tokens.
- `vocabularies`: how a tokenizer's vocabulary is learned.
"""
