"""The learning itself: torch, transformers, TRL. No orchestration, no tracking, no environment."""
