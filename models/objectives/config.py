"""The configs of masked language modelling and of denoising."""

from pydantic import Field, model_validator

from models.config import Config, PositiveShare, Share


class MaskingConfig(Config):
    """Masked language modelling with next-sentence prediction (BERT)."""

    share: PositiveShare = 0.15
    """Share of a row's tokens that are chosen for prediction."""
    mask_share: Share = 0.8
    """Share of the chosen tokens that the mask token replaces."""
    random_share: Share = 0.1
    """Share of the chosen tokens that a random token replaces; the others stay as they are."""
    whole_words: bool = False
    """Choose all tokens of a word or none."""

    @model_validator(mode="after")
    def _shares_fit(self) -> "MaskingConfig":
        if self.mask_share + self.random_share > 1 + 1e-9:
            raise ValueError(
                f"mask_share {self.mask_share} and random_share {self.random_share} exceed 1 "
                "together; lower one of them"
            )
        return self


class DenoisingConfig(Config):
    """Noise that a sequence-to-sequence model learns to undo (BART), in any mix."""

    text_infilling: Share = 0.3
    """Share of a document's tokens in spans that one mask token each replaces."""
    span_tokens: float = Field(3.0, ge=1, le=1_000)
    """Mean length of these spans (Poisson); a span of length 0 inserts a mask token."""
    sentence_permutation: Share = 1.0
    """Share of the documents whose sentences are shuffled."""
    document_rotation: Share = 0.0
    """Share of the documents that are rotated to begin with a random token."""
    token_masking: Share = 0.0
    """Share of a document's tokens that the mask token replaces one by one."""
    token_deletion: Share = 0.0
    """Share of a document's tokens that are deleted."""
