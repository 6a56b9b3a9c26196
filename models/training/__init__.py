"""Pretraining and SFT, and what TRL's and transformers' trainers share."""
