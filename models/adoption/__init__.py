"""Models from elsewhere: `adopt` makes one complete, `proof` compares it with its own forward pass.

`merging` puts a LoRA adapter into its base.
"""
