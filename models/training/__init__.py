"""Pretraining, SFT and DPO, and what TRL's and transformers' trainers share.

`pretraining`, `masked` and `denoising` (on `reconstruction`), `sft`, `dpo`; `packed_trainers` (no
padding), `setup`, `memory`, `saving` of checkpoints, `callbacks`, `blocks` of the corpus, `order`
of rows; `adapters` (LoRA); `speed`, a short measurement; `config`.
"""
