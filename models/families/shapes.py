"""Named sizes for any family, and the published shapes: what `model.shape` fills in.

A size gives layers, width and heads; a published shape gives the family and all that it takes to
count the paper's parameters, but the vocabulary, which is the tokenizer's.

What differs from the papers: GPT-1 is GPT-2's network at GPT-1's size (norms before the sublayers
and one more at the end, 1,536 weights), and nothing has dropout.

Sources: Radford et al., Improving language understanding by generative pre-training (2018),
section 4.1; Radford et al., Language models are unsupervised multitask learners (2019), table 2,
whose counts its authors corrected to 124M, 355M, 774M and 1558M; Devlin et al., BERT (2019),
section 3; Lewis et al., BART (2020), section 2.2, and its released models; Touvron et al., LLaMA
(2023), table 2, feed-forward widths from its released weights.
"""

from typing import Any, Literal, TypeAlias

ShapeName: TypeAlias = Literal[
    "", "nano", "micro", "tiny", "small", "medium", "large", "1b",
    "gpt1", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "bert-base", "bert-large",
    "bart-base", "bart-large", "llama-7b", "llama-13b", "llama-30b", "llama-65b",
]  # fmt: skip


def _published(
    family: str, layers: int, width: int, heads: int, context: int, **others: Any
) -> dict[str, Any]:
    return {
        "family": family, "layers": layers, "width": width, "heads": heads, "context": context,
        **others,
    }  # fmt: skip


SHAPES: dict[str, dict[str, Any]] = {
    "nano": {"layers": 2, "width": 128, "heads": 4},
    "micro": {"layers": 4, "width": 192, "heads": 6},
    "tiny": {"layers": 6, "width": 256, "heads": 8},
    "small": {"layers": 8, "width": 512, "heads": 8},
    "medium": {"layers": 12, "width": 768, "heads": 12},
    "large": {"layers": 24, "width": 1024, "heads": 16},
    "1b": {"layers": 20, "width": 2048, "heads": 16},
    "gpt1": _published("gpt2", 12, 768, 12, 512),
    "gpt2": _published("gpt2", 12, 768, 12, 1024),
    "gpt2-medium": _published("gpt2", 24, 1024, 16, 1024),
    "gpt2-large": _published("gpt2", 36, 1280, 20, 1024),
    "gpt2-xl": _published("gpt2", 48, 1600, 25, 1024),
    "bert-base": _published("bert", 12, 768, 12, 512),
    "bert-large": _published("bert", 24, 1024, 16, 512),
    "bart-base": _published("bart", 6, 768, 12, 1024),
    "bart-large": _published("bart", 12, 1024, 16, 1024),
    "llama-7b": _published("llama", 32, 4096, 32, 2048, feed_forward=11008, tied=False),
    "llama-13b": _published("llama", 40, 5120, 40, 2048, feed_forward=13824, tied=False),
    "llama-30b": _published("llama", 60, 6656, 52, 2048, feed_forward=17920, tied=False),
    "llama-65b": _published("llama", 80, 8192, 64, 2048, feed_forward=22016, tied=False),
}
"""Fields of an architecture by the name of its shape."""
