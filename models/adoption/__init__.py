"""Models from elsewhere: `adopt` makes one complete, `proof` compares it with its own forward pass.

`agreement` settles what such models leave open; `merging` puts a LoRA adapter into its base.
"""
