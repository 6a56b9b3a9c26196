"""Pretraining, SFT and DPO, and what TRL's and transformers' trainers share.

`pretraining`, `masked` and `denoising` (on `reconstruction`), `sft`, `dpo`; `packed_trainers` (no
padding), `setup`, `memory`, `saving` of checkpoints, `callbacks`, `spikes` of the loss, `blocks` of
the corpus, `order` of rows, the `account` of what was learned from; `adapters` (LoRA); `speed`, a
short measurement; `config`.
"""
