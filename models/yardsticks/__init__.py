"""What attention is measured against: the networks and counts of the years before it.

Language models: `ngram` (interpolated Kneser-Ney), `feedforward` (2003), `recurrent` (Elman's
network and LSTM). Sequence-to-sequence: `encoder_decoder` (one fixed vector) and `rnnsearch`
(additive attention), which share `translator`. `config` has what can be chosen. The neural ones are
transformers' `PreTrainedModel`s, so they train, publish and load like every other network.
"""
