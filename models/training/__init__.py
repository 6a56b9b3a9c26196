"""Pretraining and SFT, and what TRL's and transformers' trainers share.

`pretraining`, `sft`; `packed_trainers` (no padding), `setup`, `callbacks`, `blocks` of the
corpus, `order` of rows; `adapters` (LoRA); `saving` of checkpoints; `speed`,
a short measurement; `config`.
"""
