"""What the stages of a plan cost: tokens, FLOPs, memory and seconds, from what is known before.

Work is counted in tokens: those trained on (forward and backward, 6 N operations each; 4 N where
only adapters learn, 2 N more where activations are computed again) and those sampled or scored
(forward only, 2 N). What cannot be known beforehand, such as how long completions
become, is taken from the demonstrations. `flows/planning/rates.py` makes seconds of it.

Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flows.planning.memory import Mode
from flows.planning.sizes import NetworkSizes

FRAME = 4.0
"""Tokens of the chat template around a row."""
BYTES_PER_TOKEN = 3.9
"""Of a tokenizer that does not exist yet: what the quickstart's reaches."""
SAMPLING = 3.0
"""Operations per weight that a sampled token takes the time of, beyond the 2 it needs: one step a
token, and little to do in each."""
UNJUDGED = 4
"""Most completions of a prompt where nobody judges the best of n, as in the stage."""
SPARE_PAIRS = 1.5
"""Pairs that feedback samples for each one wanted."""

WORLD = {
    "characters/corpus": 195.0,
    "characters/prompt": 30.0,
    "characters/completion": 71.0,
    "characters/pair": 175.0,
    "data/prompts_rows": 1729.0,
    "data/prompts_heldout_rows": 572.0,
}
"""The embedded world's data, whose sizes alone are parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a stage's run: its parameters and its inputs', rows, and the network.

    Attributes:
        parameters: Of all stages up to this one, by group and field.
        numbers: Rows and characters of the data, and metrics of finished stages.
        network: Sizes of the language model; None where they are not known.
        rounds: Of labels so far; each adds as many as the first.
    """

    parameters: Mapping[str, Mapping[str, Any]]
    numbers: Mapping[str, float] = field(default_factory=dict)
    network: NetworkSizes | None = None
    rounds: int = 1

    def get(self, path: str) -> Any:
        """The value of a dotted field."""
        group, _, name = path.partition(".")
        return self.parameters[group][name]

    def number(self, name: str) -> float:
        """A number of the data; KeyError where it is not known."""
        if name in self.numbers:
            return float(self.numbers[name])
        data = self.parameters["data"]
        if data["source"] != "world":
            raise KeyError(name)
        world = data["world"]
        sizes: dict[str, float] = {
            "data/corpus_rows": 0.98 * world["documents"],
            "data/demonstrations_rows": 0.98 * world["demonstrations"],
            "data/preferences_rows": world["preferences"],
            "data/preferences_heldout_rows": world["heldout_preferences"],
        }
        return (sizes | WORLD)[name]

    def tokens(self, name: str) -> float:
        """Mean tokens of a text of the data."""
        per_token = self.numbers.get("tokenizer/bytes_per_token", BYTES_PER_TOKEN)
        return self.number(f"characters/{name}") / per_token

    @property
    def prompt(self) -> float:
        return self.tokens("prompt") + FRAME

    @property
    def completion(self) -> float:
        """Of a sampled completion, on the average."""
        most = float(self.get("sampling.max_completion_tokens"))
        return min(most, self.tokens("completion") + 1)

    @property
    def pairs(self) -> float:
        """Training pairs of both reward models."""
        feedback = self.parameters.get("feedback", {})
        if feedback.get("annotator", "none") == "people":
            each = feedback["completions"] * (feedback["completions"] - 1) / 2
            labels = feedback["prompts"] * (1 + feedback.get("rated_twice", 0.0))
            return float(self.rounds * labels * each / feedback["annotated_share"])
        if feedback.get("annotator", "none") != "none":
            return float(self.rounds * feedback["preferences"])
        return self.number("data/preferences_rows")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a stage does, in tokens; rows for a stage without a network.

    Attributes:
        per_trained: Operations for each weight and token that is trained on.
    """

    trained: float = 0.0
    per_trained: float = 6.0
    sampled: float = 0.0
    scored: float = 0.0
    rows: float = 0.0

    @property
    def tokens(self) -> float:
        return self.trained + self.sampled + self.scored

    def flops(self, weights: float) -> float:
        return weights * (self.per_trained * self.trained + 2 * (self.sampled + self.scored))

    def amount(self, weights: float) -> float:
        """What seconds are in proportion to; a token that is drawn costs more than it computes."""
        return self.flops(weights) + weights * SAMPLING * self.sampled or self.rows


def _per_trained(k: Known, stage: str) -> float:
    mode = Mode.of(k.parameters[stage])
    return (4.0 if mode.rank else 6.0) + (2.0 if mode.checkpointing else 0.0)


def _prepare(k: Known) -> Work:
    names = ("corpus", "demonstrations", "preferences")
    return Work(rows=sum(k.number(f"data/{name}_rows") for name in names))


def _pretrain(k: Known) -> Work:
    steps, blocks = k.get("pretrain.steps"), k.get("pretrain.batch_size")
    tokens = float(steps * blocks * k.get("pretrain.block_tokens"))
    return Work(trained=tokens, per_trained=_per_trained(k, "pretrain"))


def _sft(k: Known) -> Work:
    rows = k.number("data/demonstrations_rows") * k.get("sft.epochs")
    tokens = rows * (k.prompt + k.tokens("completion"))
    return Work(trained=tokens, per_trained=_per_trained(k, "sft"))


def _feedback_samples(k: Known) -> Work:
    feedback = k.parameters["feedback"]
    prompts = min(SPARE_PAIRS * feedback["prompts"], k.number("data/prompts_rows"))
    return Work(sampled=prompts * feedback["completions"] * k.completion)


def _feedback(k: Known) -> Work:
    feedback = k.parameters["feedback"]
    if feedback["annotator"] == "people":
        return Work(rows=k.pairs)
    annotated = round(feedback["preferences"] * feedback["annotated_share"])
    return Work(sampled=2 * SPARE_PAIRS * annotated * k.completion)


def _reward(k: Known, share: float) -> Work:
    rows = k.pairs * share * k.get("reward.epochs")
    held_out = k.number("data/preferences_heldout_rows")
    moments = k.get("reward.moment_samples")
    pair = k.tokens("pair") + 2 * FRAME
    return Work(
        trained=rows * pair,
        per_trained=_per_trained(k, "reward"),
        sampled=moments * k.completion,
        scored=held_out * pair + moments * (k.prompt + k.completion),
    )


def _reward_quality(k: Known) -> Work:
    pairs = k.number("data/preferences_heldout_rows") * (k.tokens("pair") + 2 * FRAME)
    judged = k.get("data.source") == "world" or k.parameters["reward"]["judge_share"] > 0
    prompts = min(k.get("reward_quality.prompts"), k.number("data/prompts_heldout_rows"))
    best_of = k.get("reward_quality.best_of")
    samples = prompts * (best_of if judged else min(best_of, UNJUDGED))
    return Work(sampled=samples * k.completion, scored=pairs + samples * (k.prompt + k.completion))


def _ppo(k: Known) -> Work:
    ppo = k.parameters["ppo"]
    rollouts = ppo["iterations"] * ppo["rollouts_per_iteration"]
    row = k.prompt + k.completion
    critic = uses_critic(ppo)
    return Work(
        trained=(1 + critic) * ppo["ppo_epochs"] * rollouts * row,
        per_trained=_per_trained(k, "ppo"),
        sampled=rollouts * k.completion,
        scored=(3 + critic) * rollouts * row,  # all networks look at the rollouts
    )


def _dpo(k: Known) -> Work:
    shared = {**k.parameters["dpo"], **k.parameters.get("reward", {})}  # a result has its own
    pairs = k.pairs * (1 - shared["judge_share"])
    pair, held_out = k.tokens("pair") + 2 * FRAME, k.number("data/preferences_heldout_rows")
    return Work(
        trained=pairs * k.get("dpo.epochs") * pair,
        per_trained=_per_trained(k, "dpo"),
        scored=(pairs + 2 * held_out)
        * pair,  # by the reference, and held-out ones again at the end
    )


def _best_of_n(k: Known) -> Work:
    prompts = k.number("data/prompts_rows")
    samples, row = prompts * k.get("best_of_n.samples_per_prompt"), k.prompt + k.completion
    return Work(
        trained=prompts * k.get("sft.epochs") * row,
        per_trained=_per_trained(k, "sft"),
        sampled=samples * k.completion,
        scored=samples * row,
    )


def uses_critic(ppo: Mapping[str, Any]) -> bool:
    """Whether PPO trains a critic; parameters of an older run may lack the field."""
    return bool(ppo.get("advantages", "gae") == "gae")


def _evaluate(k: Known) -> Work:
    prompts = min(k.get("evaluate.prompts"), k.number("data/prompts_heldout_rows"))
    samples = 2 * prompts * k.get("evaluate.samples_per_prompt")
    row = k.prompt + k.completion
    return Work(sampled=samples * k.completion, scored=2 * samples * row)


WORK: Mapping[str, Callable[[Known], Work]] = {
    "prepare": _prepare,
    "tokenizer": lambda k: Work(rows=k.number("data/corpus_rows")),
    "pretrain": _pretrain,
    "sft": _sft,
    "feedback-samples": _feedback_samples,
    "feedback": _feedback,
    "reward": lambda k: _reward(k, 1 - k.get("reward.judge_share")),
    "judge": lambda k: _reward(k, k.get("reward.judge_share")),
    "reward-quality": _reward_quality,
    "ppo": _ppo,
    "dpo": _dpo,
    "best-of-n": _best_of_n,
    "evaluate": _evaluate,
    "rounds": lambda k: Work(rows=1.0),
}


def work_of(stage: str, known: Known) -> Work | None:
    """Count a stage's work; None where too little is known."""
    count = WORK.get(stage)
    try:
        return None if count is None else count(known)
    except KeyError:
        return None
