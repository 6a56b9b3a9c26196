"""Everything that shapes a run of `foundations`; each stage gets only its slice."""

from pydantic import Field

from models.benchmarks.config import InContextConfig
from models.config import BatchSize, Config, Seed
from models.families.config import ArchitectureConfig
from models.heads.config import HeadConfig
from models.language.config import TokenizerConfig
from models.training.config import PretrainConfig, SpikeConfig
from models.translation.config import TranslationConfig
from models.yardsticks.config import NgramConfig
from tasks.data.foundations.config import FoundationsDataConfig
from tasks.data.selection.config import SelectionConfig


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
            steps=600,
            mixture="captions=0.8, opinions=0.2",
            decay_embeddings=False,
            spikes=SpikeConfig(recover=True),
        ),
        title="Pretraining",
    )
    text_batch: BatchSize = Field(128, title="Texts per batch")
    """Of BERT and BART, whose rows are single texts; the others read packed blocks."""
    ngram: NgramConfig = Field(default_factory=NgramConfig, title="N-grams")
    select: SelectionConfig = Field(default_factory=SelectionConfig, title="Data selection")
    understand: HeadConfig = Field(
        default_factory=lambda: HeadConfig(epochs=3), title="Fine-tuning"
    )
    prompts: InContextConfig = Field(default_factory=InContextConfig, title="Prompts")
    translate: TranslationConfig = Field(
        default_factory=lambda: TranslationConfig(steps=800), title="Translator"
    )
    understanding: bool = True
    """Fine-tune BERT, GPT-2 and BART on entailment, similarity, polarity and choice, from
    pretrained and from random weights."""
    translation: bool = True
    """Train recurrent networks, a Transformer and BART to translate."""
    noise: bool = True
    """Pretrain BART with each of its five noises alone, and fine-tune it."""
    in_context: bool = True
    """Ask GPT-2 the same tasks by prompts, with no, one and a few examples."""
    selection: bool = True
    """Pretrain GPT-2 on the filtered corpus, and on the corpus without weights, too."""
