"""What an encoder or an encoder-decoder is pretrained to restore: pure functions of rows.

`documents` as pieces of whole sentences; `masking` and `next_sentence` (BERT), `noise` (BART);
`config`.
"""
