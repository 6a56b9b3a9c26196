"""One text made from another: translations, summaries; and how good they are on held-out rows.

`training` fine-tunes or trains a sequence-to-sequence model on rows of source and target,
`decoding` makes targets by beam search or sampling, `alignment` shows what the model looked at,
`samples` puts held-out rows through both, `scores` compares them with the references (BLEU, ROUGE,
intervals). `config` has the parameters.
"""
