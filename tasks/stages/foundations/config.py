"""Everything that shapes a run of `foundations`; each stage gets only its slice."""

from typing import Literal, Self, TypeAlias

from pydantic import Field, model_validator

from models.benchmarks.config import InContextConfig
from models.config import BatchSize, Config, Seed
from models.families.config import ArchitectureConfig
from models.families.shapes import SHAPES
from models.heads.config import HeadConfig
from models.language.config import TokenizerConfig
from models.training.config import PretrainConfig, SpikeConfig
from models.translation.config import TranslationConfig
from models.yardsticks.config import NgramConfig
from tasks.data.foundations.config import FoundationsDataConfig
from tasks.data.selection.config import SelectionConfig

TaskName: TypeAlias = Literal["entailment", "similarity", "polarity", "choice"]


class FoundationsParameters(Config):
    """Which parts are run, on which data, and how large and long."""

    preset: str = "foundations"
    """A label only."""
    seed: Seed = 0
    """Random seed of the run."""
    data: FoundationsDataConfig = Field(default_factory=FoundationsDataConfig)
    tokenizer: TokenizerConfig = Field(
        default_factory=lambda: TokenizerConfig(vocab_size=3000, mask=True)
    )
    model: ArchitectureConfig = Field(
        default_factory=lambda: ArchitectureConfig(shape="nano", context=128),
        title="Architecture",
    )
    """Sizes of every family but the translators'; its own field `family` counts for none."""
    translator: ArchitectureConfig = Field(
        default_factory=lambda: ArchitectureConfig(layers=2, width=192, heads=6, context=128),
        title="Translators",
    )
    """Sizes of the translators from scratch; BART has those of the others."""
    pretrain: PretrainConfig = Field(
        default_factory=lambda: PretrainConfig(
            steps=1500,
            batch_size=8,
            bounded_documents=True,
            mixture="captions=0.9, opinions=0.1",
            learning_rate=3e-3,
            decay_embeddings=False,
            spikes=SpikeConfig(recover=True),
        ),
        title="Pretraining",
    )
    pairs: BatchSize = Field(128, title="Pairs per batch")
    """Rows of BERT, each two segments: next-sentence prediction takes many; the others read packed
    blocks."""
    documents: BatchSize = Field(32, title="Documents per batch")
    """Rows of BART, a document each."""
    ngram: NgramConfig = Field(default_factory=NgramConfig, title="N-grams")
    select: SelectionConfig = Field(default_factory=SelectionConfig, title="Data selection")
    understand: HeadConfig = Field(
        default_factory=lambda: HeadConfig(epochs=3), title="Fine-tuning"
    )
    prompts: InContextConfig = Field(default_factory=InContextConfig, title="Prompts")
    translate: TranslationConfig = Field(
        default_factory=lambda: TranslationConfig(steps=800), title="Translator"
    )
    tasks: list[TaskName] = Field(
        ["entailment", "similarity", "polarity", "choice"], title="Understanding"
    )
    """What BERT, GPT-2 and BART are fine-tuned on, from pretrained and from random weights."""
    translation: bool = True
    """Train recurrent networks, a Transformer and BART to translate."""
    noise: bool = True
    """Pretrain BART with each of its five noises alone, and fine-tune it."""
    in_context: bool = True
    """Ask GPT-2 the same tasks, but similarity, by prompts with no, one and a few examples."""
    selection: bool = True
    """Pretrain GPT-2 on the filtered corpus, and on the corpus without weights, too."""

    @model_validator(mode="after")
    def _every_family_has_the_same_size(self) -> Self:
        for name, sizes in (("model", self.model), ("translator", self.translator)):
            if "family" in SHAPES.get(sizes.shape, {}):
                raise ValueError(
                    f"{name}.shape {sizes.shape} is of one family, and every family is made in the "
                    f"same size here; choose a size from nano to 1b, or set {name}.layers, "
                    f"{name}.width and {name}.heads"
                )
        return self
