"""What a row of the catalogue says of its stage: numbers, curves, model and card, files read."""

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

    def judged(self, inputs: Mapping[str, str]) -> list[str]:
        """Digests of the models that a stage with these inputs, by role, is about."""
        if not self.judges:
            return []
        roles = [self.about] if self.about else [one for one in inputs if one not in LEARNED_FROM]
        return sorted({inputs[role] for role in roles if role in inputs})

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


LEARNED_FROM = ("prompts", "reference", "base", "reward_model", "judge")
"""Roles under which an evaluation uses a stage without being about it."""

DATASETS: dict[str, Mapping[str, str]] = {
    "corpus": {"corpus_train": TRAIN, "corpus_heldout": HELD_OUT},
    "demonstrations": {"demonstrations_train": TRAIN, "demonstrations_heldout": HELD_OUT},
    "preferences": {"preferences_train": TRAIN},
    "heldout": {"preferences_heldout": HELD_OUT, "contrasts": HELD_OUT},
    "prompts": {"prompts_train": TRAIN, "prompts_heldout": HELD_OUT},
}
"""Files that a stage reads from the input of a role, and what for."""
