"""What each stage of learning can be told: small frozen pydantic models that import no torch."""
