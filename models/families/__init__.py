"""Networks from scratch, by family: their sizes (`config`), and `networks`, transformers' own."""
