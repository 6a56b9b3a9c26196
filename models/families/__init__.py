"""Networks from scratch, by family.

- `config`: which one and how large; `shapes`: named sizes and published shapes.
- `flops`: operations per token.
- `language_heads`: from a causal model's last hidden states to its logits.
- `networks`: transformers' own, built from these.
- `recognition`: models that cannot go through SFT, sampling and PPO.
- `routing`: how evenly a mixture of experts spreads its tokens.
- `scorers`: score heads of reward models, on BERT and BART too.
- `vocabularies`: how a tokenizer's vocabulary is learned.
"""
