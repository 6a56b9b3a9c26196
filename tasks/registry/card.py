"""Model cards: what a registered model is, was made from and may be used for, as Markdown.

A card opens with the front matter that the Hugging Face hub reads: licence, tags, base model. It is
made when a model is registered and again when it is promoted, from manifests alone: no network but
one question to the hub where a model came from there. Whatever a foreign folder or file says is
written as text and never as Markdown.

Source: Mitchell et al., Model Cards for Model Reporting (2019), for what a card should answer.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from models.evaluation.result import Outcome, read_outcome
from tasks.registry.licenses import HUB, folder_license, hub_license
from tasks.results.manifests import list_published
from tasks.results.store import MANIFEST, Manifest, Store
from tasks.tracking.client import flatten

SHOWN_CHARACTERS = 5000
"""What MLflow's database keeps of a version's description."""
DIGEST = re.compile(r"[0-9a-f]{64}")
SPECIAL = re.compile(r"([\\`*_{}\[\]()#|!~$])")
CELL = 200
SENTENCES = 1500
"""Characters of what a promotion gave as its reasons."""

TASKS = {"reward": "text-classification", "judge": "text-classification"}
"""The hub's name of what a model does; the others generate text."""
TRAINED_BY = {"base": "pretraining", "sft": "sft", "policy": "ppo"}
WORDS = {
    "base": "A base language model: it continues text and follows no instruction.",
    "sft": "A language model fine-tuned on demonstrations.",
    "reward": "A reward model: one score a completion, learned from pairwise preferences.",
    "judge": "A second reward model, held out to judge policies that never saw it.",
    "policy": "A language model aligned by PPO against a reward model.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """One step of a model's lineage.

    Attributes:
        role: As what the step after it took it: `base`, `reference`, `prompts`.
        digest: Its identity; of what came from outside a revision or a digest of files.
        manifest: None where it came from outside, or is not in the store any more.
    """

    role: str
    digest: str
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """All that a card says.

    Attributes:
        name: Of the registered model.
        role: base, sft, reward, judge or policy.
        preset: That it was made with.
        manifest: Of the published stage.
        ancestors: Nearest first.
        license: Front matter fields of the licence, as the source model tells them.
        verdict: Of its evaluation; None without one.
        promotion: Tags of the last promotion, without their prefix; empty before one.
    """

    name: str
    role: str
    preset: str
    manifest: Manifest
    ancestors: Sequence[Ancestor] = ()
    license: Mapping[str, str] = field(default_factory=dict)
    verdict: Outcome | None = None
    promotion: Mapping[str, str] = field(default_factory=dict)


def gather_facts(
    store: Store,
    manifest: Manifest,
    *,
    name: str,
    role: str,
    preset: str,
    promotion: Mapping[str, str] | None = None,
) -> CardFacts:
    """Collect what a card says from the store: lineage, licence, evaluation.

    Args:
        store: Where the stages lie.
        manifest: Of the model's stage.
        name: Of the registered model.
        role: Of the model.
        preset: That it was made with.
        promotion: What a promotion found, by tag without prefix.
    """
    ancestors = list(_ancestors(store, manifest))
    known = [manifest, *(one.manifest for one in ancestors if one.manifest is not None)]
    folders = [store.folder(one.stage, one.digest) / "model" for one in known]
    found = next(filter(None, map(folder_license, folders)), {})
    if not found:
        found = next(filter(None, (hub_license(one.digest) for one in ancestors)), {})
    return CardFacts(
        name=name,
        role=role,
        preset=preset,
        manifest=manifest,
        ancestors=ancestors,
        license=found,
        verdict=_evaluation(store, manifest.digest),
        promotion=promotion or {},
    )


def write_card(facts: CardFacts) -> str:
    """Write the whole card: front matter and text."""
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(_sections(facts)) + "\n"


def card_body(facts: CardFacts) -> str:
    """Write the card's text as MLflow shows it: no front matter, whole sections that fit."""
    note = "The whole card is README.md among the files."
    text = ""
    for section in _sections(facts):
        if len(text) + len(section) + len(note) + 2 > SHOWN_CHARACTERS:
            return text + note
        text += section + "\n\n"
    return text.rstrip()


def _front_matter(facts: CardFacts) -> dict[str, Any]:
    hub = [match["id"] for one in facts.ancestors if (match := HUB.fullmatch(one.digest))]
    trained = TRAINED_BY.get(facts.role, "reward-model")
    return {
        "license": "unknown",
        **facts.license,
        "library_name": "transformers",
        "pipeline_tag": TASKS.get(facts.role, "text-generation"),
        "tags": ["quartet", "rlhf", trained, facts.preset],
        **({"base_model": hub, "base_model_relation": "finetune"} if hub else {}),
    }


def _sections(facts: CardFacts) -> Iterator[str]:
    """The parts of the card, the most wanted first."""
    manifest = facts.manifest
    yield f"# {_safe(facts.name)}"
    yield (
        f"{WORDS.get(facts.role, 'A model.')} Made with preset {_safe(facts.preset)} by stage "
        f"{_safe(manifest.stage)}, digest `{_digest(manifest.digest)}`, seed {manifest.seed}."
    )
    yield "\n".join(["## Verdict", "", *_verdict_lines(facts)])
    yield _table("## Metrics", ("metric", "value"), _numbers(manifest.metrics))
    yield "\n".join(["## Limits", "", *_limits(facts)])
    yield _table("## Lineage", ("role", "stage", "digest"), _lineage_rows(facts))
    data = next((one for one in facts.ancestors if _stage(one) == "prepare"), None)
    rows = [] if data is None or data.manifest is None else _numbers(data.manifest.metrics)
    named = f" of `{_digest(data.digest)}`" if data is not None else ""
    yield _table(f"## Data{named}", ("quality", "value"), rows)
    yield _table("## Parameters", ("parameter", "value"), flatten(manifest.parameters).items())
    yield _table("## Made with", ("library", "version"), manifest.libraries.items())


def _verdict_lines(facts: CardFacts) -> Iterator[str]:
    if facts.verdict is None:
        yield "Not evaluated when this card was written."
    else:
        yield f"Evaluation against its SFT model: **{facts.verdict.word}**."
        yield ""
        for reason in facts.verdict.reasons:
            yield f"- {_safe(reason)}"
    if facts.promotion:
        yield ""
        yield from (
            f"- promotion {_safe(k)}: {_safe(v, SENTENCES)}"
            for k, v in facts.promotion.items()
            if v
        )


def _limits(facts: CardFacts) -> Iterator[str]:
    yield "- Every number is of this run's own held-out data; nothing is known beyond it."
    if facts.role in ("reward", "judge"):
        yield (
            "- Its score orders completions like those it was trained on; a policy that is "
            "optimised against it will find where it errs."
        )
    elif facts.role == "policy":
        yield "- It was optimised against a learned reward, which is no measure of truth or safety."
    else:
        yield "- It was not aligned with anybody's preferences."
    yield "- Nobody has reviewed it for bias, safety or personal data in its training data."
    if not facts.license:
        yield "- No licence is known: what it was made from does not name one."


def _lineage_rows(facts: CardFacts) -> Iterator[tuple[str, str, str]]:
    for one in facts.ancestors:
        yield one.role, _stage(one), _digest(one.digest)


def _stage(ancestor: Ancestor) -> str:
    return "outside" if ancestor.manifest is None else ancestor.manifest.stage


def _numbers(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """Finite metrics; how fast a machine was says nothing of the model."""
    return [
        (name, f"{value:.0f}" if value == round(value) else f"{value:.4g}")
        for name, value in sorted(metrics.items())
        if math.isfinite(value) and "/time/" not in name
    ]


def _table(title: str, heads: Sequence[str], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(_safe(str(cell)) for cell in row) + " |" for row in rows]
    if not lines:
        return f"{title}\n\nNothing is recorded."
    rule = "|" + "---|" * len(heads)
    return "\n".join([title, "", "| " + " | ".join(heads) + " |", rule, *lines])


def _safe(text: str, characters: int = CELL) -> str:
    """Write a text so that Markdown and HTML read it as nothing but text, in one line."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    line = line if len(line) <= characters else f"{line[: characters - 1]}…"
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return SPECIAL.sub(r"\\\1", line)


def _digest(text: str) -> str:
    """The beginning of a digest, or a foreign name, without what would end a code span."""
    return text[:12] if DIGEST.fullmatch(text) else text.replace("`", "'")


def _ancestors(store: Store, manifest: Manifest) -> Iterator[Ancestor]:
    """Everything that a stage was made from, nearest first, each once."""
    seen: set[str] = set()
    waiting = [manifest]
    while waiting:
        for role, digest in waiting.pop(0).inputs.items():
            if digest in seen:
                continue
            seen.add(digest)
            found = _read_manifest(store, digest) if DIGEST.fullmatch(digest) else None
            waiting += [] if found is None else [found]
            yield Ancestor(role=role, digest=digest, manifest=found)


def _read_manifest(store: Store, digest: str) -> Manifest | None:
    stage = store.stage_of(digest)
    if stage is None:
        return None
    return Manifest.model_validate_json((store.folder(stage, digest) / MANIFEST).read_bytes())


def _evaluation(store: Store, digest: str) -> Outcome | None:
    """The decision of the newest evaluation of a policy."""
    for folder, manifest in reversed(list(list_published(store.root, "evaluate"))):
        if manifest.inputs.get("policy") == digest:
            return read_outcome(folder)
    return None
