"""What an inspection found: numbers and examples, stored in quality.json."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from models.statistics.intervals import Interval, wilson_interval
from tasks.data.formats import Collection

Encode: TypeAlias = Callable[[list[str]], list[list[int]]]
"""Texts to their token ids, such as a tokenizer's own function."""

UNSURE = "und"
"""Code of a language that is not known."""

Severity: TypeAlias = Literal["wrong", "look", "fine"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLimits:
    """A tokenizer and what its model can take.

    Attributes:
        encode: Gives the token ids of texts.
        sft: Most tokens of a demonstration.
        reward: Most tokens of a prompt with one completion of a preference.
        prompts: Most tokens of a prompt that is to be answered.
        context: The model's context length.
    """

    encode: Encode
    sft: int
    reward: int
    prompts: int
    context: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Lengths of the texts of one column, in one unit."""

    median: float
    p95: float
    maximum: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts between neighbouring edges, one fewer than there are edges."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnLengths:
    """Lengths of one column beyond the characters that the report counts in all rows.

    Attributes:
        histogram: Of the characters.
        words: Of a sample of the training rows, like the tokens.
        tokens: Only where a tokenizer is known, without those of a chat template.
    """

    histogram: Histogram
    words: Sizes
    tokens: Sizes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Two texts that are equal or nearly so; similarity is the Jaccard index of word triples."""

    first: str
    second: str
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicates:
    """Training rows that nearly repeat another one of their collection."""

    rows: int = 0
    examples: tuple[Match, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """Held-out rows of one collection that stand in the training rows of one.

    Attributes:
        heldout: Collection of the held-out rows.
        train: Collection of the training rows.
        what: Whether prompts were compared, or whole texts (prompt with completion).
        rows: Held-out rows that were looked up.
        exact: Of these, those found with the same words, whatever their case and spaces.
        near: Of the others, those nearly found.
    """

    heldout: Collection
    train: Collection
    what: Literal["prompt", "text"]
    rows: int
    exact: int
    near: int
    examples: tuple[Match, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Languages:
    """Languages of a sample of texts: shares by ISO code, `und` where it is unsure.

    Attributes:
        scripts: Shares of the scripts of the unsure texts, such as `latin`, of all texts.
    """

    texts: int = 0
    shares: Mapping[str, float] = field(default_factory=dict)
    scripts: Mapping[str, float] = field(default_factory=dict)

    @property
    def known(self) -> float:
        """Number of texts whose language is known."""
        return self.texts * (1 - self.shares.get(UNSURE, 0.0))

    def share(self, name: str) -> float:
        """Share of a language, of the texts whose language is known."""
        return self.shares.get(name, 0.0) * self.texts / self.known if self.known else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Pairs that were judged several times, before duplicates were dropped.

    Attributes:
        pairs: Pairs with at least two judgements.
        judgements: Judgements of these pairs.
        equal: Share of two judgements of one pair that are equal; 0.5 is what coins would give.
    """

    pairs: int
    judgements: int
    equal: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PairNumbers:
    """What the preferences have in common; lengths in characters.

    Attributes:
        pairs: Pairs that were looked at, held-out ones included, ties excluded.
        longer: Pairs whose chosen side is the longer one.
        equal_length: Pairs whose sides are equally long.
        difference: Length of chosen minus that of rejected.
        prompts: Different prompts.
        most_pairs: Pairs of the prompt that has most.
        ties: Rows where neither side is better.
        margins: Pairs by margin, the most frequent ones; empty without margins.
        first_difference: Where the two sides begin to differ, in characters of the completion.
    """

    pairs: int
    longer: int
    equal_length: int
    difference: Histogram
    prompts: int
    most_pairs: int
    ties: int
    margins: Mapping[str, int]
    first_difference: Sizes | None

    @property
    def unequal(self) -> int:
        """Pairs of unequal length."""
        return self.pairs - self.equal_length

    def chosen_longer(self) -> Interval:
        """Share of the pairs of unequal length whose chosen side is the longer one, 95%."""
        return wilson_interval(self.longer, self.unequal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """What a limit in tokens does to a sample of the training rows of one collection.

    Attributes:
        limit: Most tokens of prompt and completion.
        rows: Rows of the sample.
        cut: Rows whose prompt loses tokens at its beginning.
        dropped: Rows whose completion alone fills the limit, so that they are left out.
        equal: Pairs whose two sides are the same tokens.
    """

    collection: Collection
    limit: int
    rows: int
    cut: int
    dropped: int
    equal: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionInspection:
    """One collection.

    Attributes:
        train: Training rows that were looked at.
        heldout: Held-out rows that were looked at.
        share: Share of all rows that this is; below 1 they are a sample by content.
        columns: Lengths by column, of both sides.
        near_duplicates: Within the training rows.
        template_share: Share of the word triples that stand in a tenth of the texts and more.
        languages: Of the training rows.
        heldout_languages: Of the held-out rows.
    """

    name: Collection
    train: int
    heldout: int
    share: float
    columns: Mapping[str, ColumnLengths]
    near_duplicates: NearDuplicates = NearDuplicates()
    template_share: float = 0.0
    languages: Languages = Languages()
    heldout_languages: Languages = Languages()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """All collections.

    Attributes:
        leaks: Those with at least one row.
        pairs: None without preferences.
        agreement: None where no pair was judged twice.
        truncations: Only where a tokenizer is known.
        unchecked: Pairs of texts that were too many to compare, judged by their sketches alone.
    """

    collections: tuple[CollectionInspection, ...] = ()
    leaks: tuple[Leak, ...] = ()
    pairs: PairNumbers | None = None
    agreement: Agreement | None = None
    truncations: tuple[Truncation, ...] = ()
    unchecked: int = 0

    def metrics(self) -> dict[str, float]:
        """The few that are worth a column, such as ``data/chosen_longer_share``."""
        metrics = {
            f"data/{one.name}_near_duplicates": float(one.near_duplicates.rows)
            for one in self.collections
        }
        for leak in self.leaks:
            name = f"data/leaked_{leak.heldout}_rows"
            metrics[name] = max(metrics.get(name, 0.0), float(leak.exact + leak.near))
        if self.pairs is not None and self.pairs.unequal:
            metrics["data/chosen_longer_share"] = self.pairs.longer / self.pairs.unequal
        if self.agreement is not None:
            metrics["data/agreement_share"] = self.agreement.equal
        return metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One verdict on the data.

    Attributes:
        severity: wrong: training on it would be wrong; look: worth a look; fine: nothing found.
        text: What was found, with the count; reasons in it may be foreign text.
        remedy: What to do about it.
        example: Foreign text.
    """

    severity: Severity
    text: str
    remedy: str = ""
    example: str = ""


def percent(share: float) -> str:
    """Write a share so that a small one is not taken for none."""
    return "under 1%" if 0 < share < 0.01 else f"{share:.0%}"
