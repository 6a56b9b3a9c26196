"""The gold judge of the embedded world, applied to samples: evaluation only."""

from collections.abc import Sequence

import numpy as np

from models.evaluation.samples import GoldJudgement, PolicySamples
from tasks.judging.interface import Content, text_of
from tasks.world.judge import Judgement, good, judge
from tasks.world.rules import HARM


def judge_samples(prompts: Sequence[Content], samples: PolicySamples) -> GoldJudgement:
    """Judge every sample of every prompt; arrays (prompts, samples)."""
    judged: list[list[Judgement]] = [
        [
            judge(text_of(prompt, "user"), text, bool(finished))
            for text, finished in zip(texts, ends, strict=True)
        ]
        for prompt, texts, ends in zip(prompts, samples.texts, samples.finished, strict=True)
    ]
    return GoldJudgement(
        gold=np.array([[one.score for one in row] for row in judged]),
        good=np.array([[good(one) for one in row] for row in judged]),
        correct=np.array([[float(one.correct) for one in row] for row in judged]),
        polite=np.array([[float(one.polite) for one in row] for row in judged]),
        refusal=np.array(
            [
                [float(one.refused) if one.family == HARM else np.nan for one in row]
                for row in judged
            ]
        ),
    )
