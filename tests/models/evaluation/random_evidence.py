"""Random evidence for decisions: every judge, broken numbers, zero rates, few matches, alarms.

Cases are plain numbers, so that a decision that was recorded once can be asked for again whatever
the code that decides looks like. Values lie near the bounds, where decisions differ.
"""

import math
import random
from collections.abc import Iterator
from typing import Any

JUDGES = ("gold judge", "held-out reward model", "reward model")
BROKEN = (math.nan, math.inf, -math.inf)


def cases(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Draw cases; the same seed gives the same ones."""
    draw = random.Random(seed)
    for _ in range(count):
        yield _case(draw)


def _case(draw: random.Random) -> dict[str, Any]:
    judge = draw.choice(JUDGES)
    sft_eos = draw.choice([0.0, 0.0, 1.0, draw.uniform(0.2, 1.0), draw.uniform(0.2, 1.0)])
    sft_length = draw.choice([20.0, draw.uniform(5, 40), 0.0 if draw.random() < 0.2 else 17.0])
    sft_distinct = draw.uniform(0.05, 0.9)
    return {
        "judge": judge,
        "gain": _interval(draw, 0.03),
        "score_gain": None if draw.random() < 0.05 else _interval(draw, 0.4),
        "prompts": draw.choice([1, 2, 8, 29, 30, 128, 512]),
        "score_sft": _number(draw, draw.gauss(0, 1)),
        "score_ppo": _number(draw, draw.gauss(1, 1)),
        "kl": None if draw.random() < 0.05 else _number(draw, draw.choice([1.5, 10.0, 10.001, 40])),
        "length_sft": sft_length,
        "length_ppo": _number(draw, sft_length * draw.choice([0.7, 0.69, 1.0, 1.0, 1.4, 1.41])),
        "eos_sft": sft_eos,
        "eos_ppo": _number(
            draw, min(1.0, sft_eos * draw.choice([0.5, 0.8, 0.79, 1.0, 1.0]) or 0.1)
        ),
        "distinct_sft": sft_distinct,
        "distinct_ppo": _number(draw, sft_distinct * draw.choice([0.8, 0.79, 0.9, 1.0])),
        "pair_difference": _number(draw, draw.choice([0.5, 0.49, 0.8, 0.9])),
        "matched": draw.choice([0, 99, 100, 800, 900]),
        "matched_sft": sft_distinct,
        "matched_ppo": _number(draw, sft_distinct * draw.choice([0.7, 0.69, 0.8, 1.0])),
        "alarms": draw.choice([{}, {}, {}, {"hacking": 0}, {"kl_high": 2}]),
        "opponent": draw.choice(["champion", "SFT model"]),
    }  # fmt: skip


def _number(draw: random.Random, value: float) -> float:
    """Mostly the value; now and then a broken one."""
    return draw.choice(BROKEN) if draw.random() < 0.02 else value


def _interval(draw: random.Random, width: float) -> tuple[float, float, float]:
    """Mean and ends: above zero, below it, around it, touching it, or broken."""
    half = draw.uniform(0.2, 1) * width
    mean = draw.choice([2 * width, 2 * width, 2 * width, 0.0, -2 * width, half, -half])
    ends = (mean, mean - half, mean + half)
    if draw.random() < 0.03:
        return draw.choice([(mean, math.nan, math.nan), (math.nan, math.nan, math.nan),
                            (math.inf, math.inf, math.inf)])  # fmt: skip
    return ends
