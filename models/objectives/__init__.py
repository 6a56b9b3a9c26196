"""What an encoder or an encoder-decoder is pretrained to restore: pure functions of rows.

`documents` as pieces of whole sentences; `masking` and `next_sentence` (BERT), `noise` (BART);
`batches` of rows of like length; `config`.
"""
