"""The work of an evaluation of models: draw prompts, sample, judge, measure.

What is missing, a judge's package or a reference, shows before anything is sampled.
"""

import contextlib
import functools
import itertools
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

from models.errors import DataError
from models.evaluation.config import EvaluateModelsConfig
from models.evaluation.measures import ModelSamples, measure
from models.language.config import SamplingConfig
from models.randomness import derive_seed
from models.rows import read_rows
from models.statistics.intervals import Interval
from models.statistics.win_rates import win_rates, win_rates_of_scores
from tasks.judging.judges import Pair, PairwiseJudge, PointwiseJudge, make_judges
from tasks.judging.prompts import (
    PromptFile,
    draw,
    prepared_demonstrations,
    prepared_prompts,
)
from tasks.reports.evaluation import Found, Judged
from tasks.run.stage import Workspace

JUDGE_ROLES = {"reward": "reward_model", "judge": "judge"}
"""Roles of the models that are judges."""


class ModelEvaluation:
    """One evaluation while it is computed."""

    def __init__(
        self,
        work: Workspace,
        config: EvaluateModelsConfig,
        sampling: SamplingConfig,
        roles: Mapping[str, str],
        own: PromptFile | None,
        seed: int,
    ) -> None:
        """Draw the prompts; nothing is loaded yet.

        Args:
            work: Folders of the models under their roles, and of all that judges need.
            config: Prompts, samples, judges.
            sampling: Temperature and longest completion.
            roles: Name of each model by its role.
            own: The user's prompts; without them those of the input `prompts` are asked.
            seed: Root seed.
        """
        self.work = work
        self.config = config
        self.sampling = sampling
        self.seed = seed
        self.step = 0
        self.folders = {name: work.inputs[role] / "model" for role, name in roles.items()}
        self.reference = work.inputs["reference"] / "model" if "reference" in work.inputs else None
        self.given = list(own.asked) if own else prepared_prompts(work.inputs["prompts"])
        self.asked = draw(self.given, config.prompts, seed)
        self.prompts = [one.prompt for one in self.asked]
        self.bootstrap = {
            "resamples": config.bootstrap_resamples,
            "seed": derive_seed(seed, "evaluate-models.bootstrap"),
        }

    def run(self) -> Found:
        """Sample, judge, measure.

        Raises:
            ParameterError: A judge lacks its package or its model, or refuses.
            DataError: A judge or measure cannot be applied to these prompts.
        """
        self._want_references()
        judges = make_judges(
            self.config,
            self.prompts,
            reward_models={
                name: self.work.inputs[role] / "model"
                for name, role in JUDGE_ROLES.items()
                if role in self.work.inputs
            },
            device=self.work.device,
            answers=self.work.checkpoints,
        )
        samples = {name: self._sample(name) for name in self.folders}
        judged = {name: self._judge(judge, name, samples) for name, judge in judges.items()}
        return Found(
            asked=self.asked,
            samples_per_prompt=self.config.samples_per_prompt,
            texts={name: one.texts for name, one in samples.items()},
            measures={name: self._measure(name, one, judged) for name, one in samples.items()},
            judged=judged,
            reference=self._reference_name(),
        )

    def _sample(self, name: str) -> ModelSamples:
        from models.evaluation.model_samples import sample_model  # imports torch

        with self._step("sampling"):
            return sample_model(
                self.folders[name],
                self.prompts,
                samples_per_prompt=self.config.samples_per_prompt,
                sampling=self.sampling,
                seed=derive_seed(self.seed, "evaluate-models"),
                device=self.work.device,
                reference=self.reference,
            )

    def _judge(
        self,
        judge: PointwiseJudge | PairwiseJudge,
        name: str,
        samples: Mapping[str, ModelSamples],
    ) -> Judged:
        with self._step(f"judge_{name}"):
            if isinstance(judge, PairwiseJudge):
                return self._compare(judge, samples)
            scores = {
                model: judge.score(self.prompts, one, self.folders[model])
                for model, one in samples.items()
            }
            return Judged(rates=win_rates_of_scores(scores, **self.bootstrap), scores=scores)

    def _compare(self, judge: PairwiseJudge, samples: Mapping[str, ModelSamples]) -> Judged:
        """Show a pairwise judge the first sample of each two models, all pairs in one go."""
        asked = min(len(self.prompts), self.config.endpoint.prompts)
        pairs = list(itertools.combinations(samples, 2))
        shown = [
            Pair(
                prompt=self.prompts[index],
                first=samples[row].texts[index][0],
                second=samples[column].texts[index][0],
            )
            for row, column in pairs
            for index in range(asked)
        ]
        with contextlib.closing(judge):
            verdicts = judge.compare(shown)
        preferences = dict(zip(pairs, verdicts.preference.reshape(len(pairs), asked), strict=True))
        return Judged(
            rates=win_rates(list(samples), preferences, **self.bootstrap), facts=verdicts.facts
        )

    def _measure(
        self, name: str, samples: ModelSamples, judged: Mapping[str, Judged]
    ) -> dict[str, Interval]:
        scores = {judge: one.scores[name] for judge, one in judged.items() if one.scores}
        measured = measure(samples, scores, **self.bootstrap)
        bare = self._likelihood(name) if self.config.perplexity else {}
        if self.config.references:
            bare |= self._against_references(samples)
        return measured | {
            key: Interval(mean=value, low=math.nan, high=math.nan) for key, value in bare.items()
        }

    def _likelihood(self, name: str) -> dict[str, float]:
        from models.evaluation.model_likelihood import measure_likelihood  # imports torch

        return measure_likelihood(
            self.folders[name],
            texts=self._texts,
            demonstrations=self._demonstrations,
            device=self.work.device,
        )

    @functools.cached_property
    def _texts(self) -> list[str]:
        """Held-out texts of the prepared data."""
        if "prompts" not in self.work.inputs:
            return []
        rows = read_rows(self.work.inputs["prompts"] / "corpus_heldout.jsonl")
        return [row["text"] for row in rows[: self.config.perplexity_texts]]

    @functools.cached_property
    def _demonstrations(self) -> list[tuple[Any, str]]:
        """Prompts with a completion each: held-out ones, or what stands in the user's file."""
        folder = self.work.inputs.get("prompts")
        given = self.given if folder is None else prepared_demonstrations(folder)
        pairs = [(one.prompt, text) for one in given for text in one.references]
        return pairs[: self.config.perplexity_texts]

    def _against_references(self, samples: ModelSamples) -> dict[str, float]:
        from models.evaluation.texts import bleu, rouge

        completions = samples.flat_texts()
        references = [list(one.references) for one in self.asked for _ in range(samples.shape[1])]
        return {"bleu": bleu(completions, references), **rouge(completions, references)}

    def _want_references(self) -> None:
        lacking = sum(not one.references for one in self.asked)
        if self.config.references and lacking:
            raise DataError(
                f"BLEU and ROUGE want a completion with every prompt; {lacking} of "
                f"{len(self.asked)} prompts have none; give a file of prompts with completions, or "
                "leave references off"
            )

    def _reference_name(self) -> str:
        """The name of the reference, where it is one of the models or known by its stage."""
        if self.reference is None:
            return ""
        same = [name for name, folder in self.folders.items() if folder.samefile(self.reference)]
        return same[0] if same else f"{self.reference.parts[-3]}/{self.reference.parts[-2][:8]}"

    @contextlib.contextmanager
    def _step(self, what: str) -> Iterator[None]:
        """Tell the bar that a step is done, and how long it took."""
        started = time.monotonic()
        yield
        self.step += 1
        self.work.log({f"time/{what}_seconds": time.monotonic() - started}, self.step)
