"""What attention is measured against: the counts and networks of the years before it.

Language models: `ngram` (Kneser-Ney), and around what they share, `language`, `feedforward` (2003)
and `recurrent` (Elman's network and LSTM). Sequence-to-sequence, around `translator`:
`encoder_decoder` (one fixed vector) and `rnnsearch` (additive attention). `building` makes the
networks, which are transformers' `PreTrainedModel`s: they train, publish and load like all others;
`config` has what can be chosen of the counts.
"""
