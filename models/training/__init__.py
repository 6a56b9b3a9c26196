"""Pretraining and SFT, and what TRL's and transformers' trainers share.

`pretraining`, `sft`; `packed_trainers` (no padding), `setup`, `callbacks`, `order` of rows and
corpus blocks; `speed`, a short measurement; `config`.
"""
