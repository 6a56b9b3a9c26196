"""One row a stage: what it is called, which numbers and curves stand for it, what it reads.

The only table of stages. A new stage gets a row here and is then named in reports, shown on its
pipeline's run, compared and drawn like the others; machinery and views know no stage by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["base", "sft", "reward", "judge", "policy"]
"""What a model is to a pipeline: the name under which it is registered, and asked for."""

TRAIN, HELD_OUT = "train", "heldout"


@dataclass(frozen=True, slots=True)
class Curve:
    """A step metric worth a picture, with the picture's title and labels; y has its unit."""

    metric: str
    title: str
    y: str
    x: str = "step"


@dataclass(frozen=True, slots=True)
class KeyMetric:
    """A number that stands for a stage in one line of text, in words and as Python formats it."""

    metric: str
    label: str
    format: str = ".3f"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a model card says of every model that a stage makes.

    Attributes:
        text: What it is.
        limit: What it is not good for.
        task: The hub's name of what it does.
        tag: The hub's name of how it was trained.
    """

    text: str = "A model."
    limit: str = "It was not aligned with anybody's preferences."
    task: str = "text-generation"
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What others need to know of a stage.

    Attributes:
        title: Its name for people.
        key_metrics: Shown when a run ends.
        final: Whether its numbers are what it is for: its run in MLflow shows all of them, not only
            those that stand for it.
        detailed: Whether its own run in MLflow shows all of them, and the pipeline's does not.
        curves: Worth a picture, and compared between runs.
        loss_unit: Of its losses, where they have one.
        lineage: Metrics that stand for it in a lineage; the key metrics unless there are some.
        role: What its model is registered as; empty for stages without a model.
        also: What else its model can be used as.
        card: What its model's card says.
        networks: Folders of the networks that it trains.
        datasets: Files that it reads from an input, by the input's role, where they are not what
            the role says (`DATASETS`).
        live: Whether its view can show its working folder while it is computed.
        judges: Whether it says how good a model is.
        about: Role of the one input that it judges; empty where it judges all its models.
    """

    title: str
    key_metrics: tuple[KeyMetric, ...] = ()
    final: bool = False
    detailed: bool = False
    curves: tuple[Curve, ...] = ()
    loss_unit: str = ""
    lineage: tuple[str, ...] = ()
    role: Role | Literal[""] = ""
    also: tuple[Role, ...] = ()
    card: Card = Card()
    networks: tuple[str, ...] = ("model",)
    datasets: dict[str, Mapping[str, str]] = field(default_factory=dict)
    live: bool = False
    judges: bool = False
    about: str = ""

    def numbers(self, metrics: Mapping[str, float]) -> str:
        """What stands for the stage, in one line of text."""
        return ", ".join(
            f"{one.label} {metrics[one.metric]:{one.format}}"
            for one in self.key_metrics
            if one.metric in metrics
        )

    def shown(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The final numbers that its run in MLflow shows; its manifest has all of them."""
        wanted = {key.metric for key in self.key_metrics} | set(self.lineage)
        everything = self.final or self.detailed or not wanted
        return {name: value for name, value in metrics.items() if everything or name in wanted}


DATASETS: dict[str, Mapping[str, str]] = {
    "corpus": {"corpus_train": TRAIN, "corpus_heldout": HELD_OUT},
    "demonstrations": {"demonstrations_train": TRAIN, "demonstrations_heldout": HELD_OUT},
    "preferences": {"preferences_train": TRAIN},
    "heldout": {"preferences_heldout": HELD_OUT, "contrasts": HELD_OUT},
    "prompts": {"prompts_train": TRAIN, "prompts_heldout": HELD_OUT},
}
"""Files that a stage reads from the input of a role, and what for."""


def _reward_card(text: str) -> Card:
    return Card(
        text=text,
        limit="Its score orders completions like those it was trained on; a policy that is "
        "optimised against it will find where it errs.",
        task="text-classification",
        tag="reward-model",
    )


def _policy_card(how: str, tag: str) -> Card:
    return Card(
        text=f"A language model {how}.",
        limit="It was optimised for learned preferences, which are no measure of truth or safety.",
        tag=tag,
    )


CATALOGUE: Mapping[str, Entry] = {
    "prepare": Entry(
        title="Data",
        detailed=True,
        key_metrics=(KeyMetric("data/demonstrations_rows", "demonstrations", ",.0f"),),
        lineage=("data/corpus_rows", "data/demonstrations_rows", "data/preferences_rows"),
    ),
    "tokenizer": Entry(
        title="Tokenizer",
        key_metrics=(KeyMetric("tokenizer/vocab_size", "tokens", ",.0f"),),
        datasets={"corpus": {"corpus_train": TRAIN}},
    ),
    "pretrain": Entry(
        title="Pretraining",
        key_metrics=(KeyMetric("pretrain/perplexity", "held-out perplexity", ".2f"),),
        curves=(Curve("pretrain/loss", "Pretraining: loss", "nats per token"),),
        loss_unit="nats per token",
        lineage=("pretrain/parameters", "pretrain/bits_per_byte"),
        role="base",
        card=Card(
            text="A base language model: it continues text and follows no instruction.",
            tag="pretraining",
        ),
    ),
    "sft": Entry(
        title="Supervised fine-tuning",
        key_metrics=(KeyMetric("sft/heldout_perplexity", "held-out perplexity", ".2f"),),
        curves=(Curve("sft/loss", "SFT: loss", "nats per token"),),
        loss_unit="nats per token",
        lineage=("sft/rows", "sft/heldout_perplexity"),
        role="sft",
        also=("base", "policy"),
        card=Card(text="A language model fine-tuned on demonstrations.", tag="sft"),
    ),
    "feedback-samples": Entry(
        title="Samples for people",
        key_metrics=(KeyMetric("feedback_samples/items", "items", ",.0f"),),
        datasets={"prompts": {"prompts_train": TRAIN}},
    ),
    "feedback": Entry(
        title="Feedback",
        key_metrics=(KeyMetric("feedback/annotated", "pairs annotated", ",.0f"),),
        lineage=("feedback/preferences",),
        datasets={"prompts": {"prompts_train": TRAIN, "preferences_train": TRAIN}},
    ),
    "reward": Entry(
        title="Reward model",
        key_metrics=(
            KeyMetric("reward/accuracy", "held-out pair accuracy"),
            KeyMetric("reward/accuracy_low", "95% from"),
            KeyMetric("reward/accuracy_high", "to"),
            KeyMetric("reward/longer_wins_accuracy", "longer wins"),
        ),
        curves=(Curve("reward/train_accuracy", "Reward model: accuracy", "share of pairs"),),
        loss_unit="nats per pair",
        lineage=("reward/pairs", "reward/accuracy"),
        role="reward",
        also=("judge",),
        card=_reward_card(
            "A reward model: one score per completion, learned from pairwise preferences."
        ),
    ),
    "judge": Entry(
        title="Held-out reward model",
        key_metrics=(KeyMetric("judge/accuracy", "held-out pair accuracy"),),
        curves=(Curve("judge/train_accuracy", "Held-out model: accuracy", "share of pairs"),),
        loss_unit="nats per pair",
        lineage=("judge/pairs", "judge/accuracy"),
        role="judge",
        also=("reward",),
        card=_reward_card("A held-out reward model: it judges policies that never saw it."),
    ),
    "reward-quality": Entry(
        title="Reward model quality",
        key_metrics=(
            KeyMetric("reward_quality/over_longer_wins", "accuracy above longer wins", "+.3f"),
            KeyMetric("reward_quality/ece", "calibration error"),
            KeyMetric("reward_quality/gold_best_of_n_gain", "best-of-n gold gain", "+.3f"),
        ),
        judges=True,
        about="reward_model",
    ),
    "ppo": Entry(
        title="PPO",
        key_metrics=(
            KeyMetric("ppo/objective/score_normalised", "last rollout: normalised score", "+.2f"),
            KeyMetric("ppo/objective/kl_to_reference", "KL", ".2f"),
        ),
        curves=tuple(
            Curve(f"ppo/objective/{metric}", f"PPO: {title}", y, "iteration")
            for metric, title, y in (
                ("score", "score by its reward model", "mean score"),
                ("kl_to_reference", "KL to the SFT model", "nats"),
                ("completion_tokens", "length", "tokens"),
                ("distinct_2", "diversity", "distinct-2"),
            )
        ),
        lineage=("ppo/objective/score", "ppo/objective/kl_to_reference"),
        role="policy",
        also=("sft", "base"),
        card=_policy_card("aligned by PPO against a reward model", "ppo"),
        networks=("model", "critic"),
        live=True,
    ),
    "dpo": Entry(
        title="DPO",
        key_metrics=(
            KeyMetric("dpo/accuracy", "held-out pair accuracy"),
            KeyMetric("dpo/heldout_loss", "held-out loss"),
        ),
        curves=(Curve("dpo/train_accuracy", "DPO: accuracy", "share of pairs"),),
        loss_unit="nats per pair",
        lineage=("dpo/pairs", "dpo/accuracy"),
        role="policy",
        also=("sft", "base"),
        card=_policy_card("aligned by DPO on pairwise preferences", "dpo"),
        datasets={"heldout": {"preferences_heldout": HELD_OUT}},
    ),
    "best-of-n": Entry(
        title="Best of n",
        key_metrics=(
            KeyMetric("best-of-n/score_gain", "chosen above mean: normalised score", "+.2f"),
            KeyMetric("best-of-n/heldout_perplexity", "held-out perplexity", ".2f"),
        ),
        curves=(Curve("best-of-n/loss", "Best of n: loss", "nats per token"),),
        lineage=("best-of-n/prompts", "best-of-n/score_gain"),
        role="policy",
        also=("sft", "base"),
        card=_policy_card("fine-tuned on its completions that a reward model liked best", "sft"),
    ),
    "evaluate": Entry(
        title="Evaluation",
        key_metrics=(
            KeyMetric("final/gold_gain", "gold gain", "+.3f"),
            KeyMetric("final/score_gain", "score", "+.3f"),
        ),
        lineage=("final/score_gain", "final/kl_to_reference", "final/win_rate", "final/accepted"),
        final=True,
        datasets={"prompts": {"prompts_heldout": HELD_OUT}},
        judges=True,
    ),
    "rounds": Entry(title="Rounds", key_metrics=(KeyMetric("improve/win_rate", "win rate"),)),
    "base": Entry(
        title="Base model from elsewhere",
        key_metrics=(KeyMetric("adopt/parameters", "parameters", ",.0f"),),
        role="base",
    ),
    "policy": Entry(title="Policy from elsewhere", role="policy", also=("sft", "base")),
    "evaluate-models": Entry(title="Models compared", final=True, judges=True),
    "multiple-choice": Entry(title="Multiple choice", final=True, judges=True),
    "lm-eval": Entry(title="Published benchmarks", final=True, judges=True),
    "promotion": Entry(title="Challenger against champion", final=True, judges=True),
}


def entry(stage: str) -> Entry:
    """The row of a stage; a plain one for a stage that has none yet."""
    return CATALOGUE.get(stage) or Entry(title=stage)


def stages_for(role: Role) -> tuple[str, ...]:
    """The stages whose model fits a role, those that are made for it first."""
    own = [name for name, row in CATALOGUE.items() if row.role == role]
    return (*own, *(name for name, row in CATALOGUE.items() if role in row.also))
