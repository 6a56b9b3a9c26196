"""Which version a promotion is about, and whether it can pass at all: asked before anything starts.

A name alone means the best accepted version (`tasks/registry/verdicts.py`); any other can be named,
for a promotion judges for itself.
"""

import math
from collections.abc import Mapping

from models.errors import ModelError, ParameterError
from tasks.judging.config import EvaluationConfig
from tasks.judging.possible import refuse_impossible
from tasks.registry.aliases import repair_aliases
from tasks.registry.registration import finish_registrations
from tasks.registry.verdicts import best_version, has_verdicts
from tasks.registry.versions import (
    NAME,
    VERDICT,
    ModelVersion,
    find_registered,
    find_version,
    in_words,
    newest_versions,
)
from tasks.results.manifests import list_published
from tasks.run.reporting import run_logger
from tasks.settings import load_settings
from tasks.tracking.client import Tracker

MATCHED = "final/matched_completions"
"""Metric of evaluations with a gold judge."""

ROOM = 1.2
"""How many more prompts than needed by the estimate are advised."""


def find_challenger(model: str) -> tuple[ModelVersion, str]:
    """Find the version that a name means to a promotion, and say why it is that one.

    What crashes left undone of the registered model is finished first.

    Raises:
        ModelError: There is no such model or version, no version of it is accepted, or it is no
            policy.
    """
    settings = load_settings()
    tracker = Tracker(settings)
    match = NAME.fullmatch(model)
    if match is None:
        return find_version(tracker, model), ""  # says what is wrong with it
    name = match["name"]
    find_registered(tracker, name)
    for sentence in finish_registrations(settings, name):
        run_logger().info(sentence)
    repair_aliases(settings, tracker, name)
    if match["alias"] or match["version"]:
        version, why = find_version(tracker, model), ""
    else:
        version, why = _find_best(tracker, name)
    if version.published is not None and not has_verdicts(version):
        raise ModelError(
            f"{version.uri} is the result of stage {version.published[0]}, wanted a policy, which "
            "a run of the pipeline registers as PRESET-policy; name one of these"
        )
    return version, why


def _find_best(tracker: Tracker, name: str) -> tuple[ModelVersion, str]:
    best = best_version(tracker, name)
    if best is None:
        there = newest_versions(tracker, name)
        example = there[0].uri if there else f"models:/{name}/1"
        raise ModelError(
            f"{name} has no accepted version to promote ({in_words(there)}); run the pipeline with "
            f"other parameters, or compare one all the same: quartet promote {example}"
        )
    return best, f"{best.uri} is the best accepted version: {best.tags.get(VERDICT, '')}"


def refuse_too_few(version: ModelVersion, gates: EvaluationConfig) -> None:
    """Refuse so few prompts or samples that no challenger can pass.

    Whether its data know a gold judge, and how many good completions of both models can be matched
    by prompt, is taken from the version's own evaluation, as far as it is in the store.

    Raises:
        ParameterError: With numbers that are enough.
    """
    metrics = _evaluated(version)
    gold = gates.judge == "gold" or (gates.judge == "auto" and MATCHED in metrics)
    refuse_impossible(gates, gold=gold, held_out=True, group="promotion")
    if not gold:  # nobody tells which completions are good
        return
    prompts, samples, wanted = (
        gates.prompts,
        gates.samples_per_prompt,
        gates.min_matched_completions,
    )
    share = _matched_share(metrics)
    if share * prompts * samples < wanted:
        enough = math.ceil(ROOM * wanted / (share * samples))
        raise ParameterError(
            f"{prompts} prompts with {samples} samples each give about "
            f"{share * prompts * samples:.0f} good completions of both models, as {version.uri} "
            f"was evaluated, and {wanted} are wanted (min_matched_completions), so it would be "
            f"rejected; give {enough} prompts or more"
        )


def _evaluated(version: ModelVersion) -> Mapping[str, float]:
    """Metrics of the newest evaluation; none if it is not known."""
    digest = version.published[1] if version.published else ""
    published = reversed(list(list_published(load_settings().store, "evaluate")))
    found = (one.metrics for _, one in published if one.inputs.get("policy") == digest)
    return next(found, {})


def _matched_share(metrics: Mapping[str, float]) -> float:
    """Matched completions over all of a model's; 1 if it is not known."""
    matched, prompts, samples = (
        metrics.get(name, 0.0) for name in (MATCHED, "final/prompts", "final/samples_per_prompt")
    )
    return matched / (prompts * samples) if matched and prompts and samples else 1.0
