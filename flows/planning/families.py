"""What the stages of `foundations` cost: tokens, FLOPs and seconds, from parameters alone.

Texts are taken to be as long as captions are. Recurrent networks count as GPT-2 of the run's
sizes, and whatever starts from another model does; a machine's speed is measured once.
"""

from collections.abc import Sequence

from flows.planning.costs import Work
from flows.planning.rates import PROCESS_GIB, START_SECONDS, Cost, seconds_of
from flows.planning.sizes import NetworkSizes
from models.families.config import YARDSTICKS, ArchitectureConfig, kind_of
from tasks.run.planning import PlannedStage
from tasks.settings import Settings
from tasks.stages.foundations.config import FoundationsParameters

TEXT = 16.0
"""Tokens of a text."""
TEXTS = {"entailment": 2, "similarity": 4, "polarity": 1, "choice": 6}
"""Texts that a row of a task is read as: similarity in both orders, a choice with every option."""
SHOWN = 4.0
"""Examples in a prompt, on the average of none, one and a few."""
TRAINING_BYTES = 16
"""Of a weight that learns: itself, its gradient, and two moments."""


def costs_of_families(
    p: FoundationsParameters, stages: Sequence[PlannedStage], settings: Settings
) -> list[Cost]:
    """The cost of each stage of a plan; a reused one costs nothing."""
    return [Cost() if one.reused else _cost(p, one, settings) for one in stages]


def _cost(p: FoundationsParameters, stage: PlannedStage, settings: Settings) -> Cost:
    work = _work(p, stage)
    if work is None:
        return Cost(seconds=START_SECONDS, process=PROCESS_GIB)
    own = stage.spec.parameters.get("model")
    model = p.model if own is None else ArchitectureConfig.model_validate(own)
    if own is None or model.family in YARDSTICKS:
        model = model.model_copy(update={"family": "gpt2"})
    network = NetworkSizes.from_scratch(model, p.tokenizer.vocab_size)
    return Cost(
        work=work,
        flops=work.flops(network.active),
        seconds=START_SECONDS + seconds_of(work, network, settings),
        networks=TRAINING_BYTES * network.weights,
        process=PROCESS_GIB,
    )


def _work(p: FoundationsParameters, stage: PlannedStage) -> Work | None:
    own = stage.spec.parameters
    if stage.spec.name == "pretrain":
        recipe = own["pretrain"]
        causal = kind_of(own["model"]["family"]) == "causal"
        row = recipe["block_tokens"] if causal else 2 * TEXT
        return Work(trained=recipe["steps"] * recipe["batch_size"] * row)
    if stage.spec.name == "understand":
        texts = TEXTS[own["task"]] * TEXT
        return Work(
            trained=p.data.task_rows * own["understand"]["epochs"] * texts,
            scored=p.data.heldout_rows * texts,
        )
    if stage.spec.name == "translate":
        recipe = own["translate"]
        beams = recipe["decoding"]["beams"]
        return Work(
            trained=recipe["steps"] * recipe["batch_size"] * 2 * TEXT,
            sampled=p.data.heldout_rows * beams * TEXT,
        )
    if stage.spec.name == "in-context":
        texts = TEXTS[own["task"]] * TEXT
        return Work(scored=3 * p.prompts.questions * texts * SHOWN)
    return None
