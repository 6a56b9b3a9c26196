"""Training, sampling and evaluation: torch, transformers, TRL. No orchestration, no tracking."""
