"""Model cards: what a registered model is, was made from and may be used for, as Markdown.

A card opens with the front matter that the Hugging Face hub reads: licence, tags, base model. It is
made when a model is registered, evaluated and promoted, from manifests alone: no network but
one question to the hub where a model came from there. Whatever a foreign folder or file says is
written as text and never as Markdown.

Source: Mitchell et al., Model Cards for Model Reporting (2019), for what a card should answer.
"""

import contextlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi

from models.evaluation.result import Outcome, read_outcome
from tasks.catalogue import entry
from tasks.escaping import code_span, for_markdown
from tasks.registry.versions import NOT_EVALUATED
from tasks.results.digests import DIGEST
from tasks.results.manifests import Ancestor, list_ancestors, list_published
from tasks.results.store import Manifest, Store
from tasks.tracking.recording import flatten

SHOWN_CHARACTERS = 5000
"""What MLflow's database keeps of a version's description."""
CELL = 200
SENTENCES = 1500
"""Characters of what a promotion gave as its reasons."""

PLAIN = re.compile(r"[\w ,.+\[\]-]+")
"""Of a verdict in a line: nothing that Markdown would read as more than text."""

HUB = re.compile(r"(?P<id>[\w.-]+(/[\w.-]+)?)@(?P<commit>[0-9a-f]{40})")
"""A model of the hub, as the manifest of what was adopted from there names it."""
HUB_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """All that a card says.

    Attributes:
        ancestors: Nearest first.
        license: Front matter fields of the licence, as the source model tells them.
        verdict: Of its evaluation; None without one.
        promotion: Tags of the last promotion, without their prefix; empty before one.
        rollback: The same of the last rollback.
        line: The verdict in a line, as far as the registry knows one.
    """

    name: str
    preset: str
    manifest: Manifest
    ancestors: Sequence[Ancestor] = ()
    license: Mapping[str, str] = field(default_factory=dict)
    verdict: Outcome | None = None
    promotion: Mapping[str, str] = field(default_factory=dict)
    rollback: Mapping[str, str] = field(default_factory=dict)
    line: str = ""


def gather_facts(
    store: Store,
    manifest: Manifest,
    *,
    name: str,
    preset: str,
    promotion: Mapping[str, str] | None = None,
    rollback: Mapping[str, str] | None = None,
    line: str = "",
) -> CardFacts:
    """Collect what a card says from the store: lineage, licence, evaluation.

    Args:
        promotion: What a promotion found, by tag without prefix.
        rollback: The same of a rollback.
        line: The verdict in a line, as far as the registry knows one.
    """
    ancestors = list(list_ancestors(store.root, manifest))
    known = [manifest, *(one.manifest for one in ancestors if one.manifest is not None)]
    folders = [store.folder(one.stage, one.digest) / "model" for one in known]
    found = next(filter(None, map(_folder_license, folders)), {})
    if not found:
        found = next(filter(None, (_hub_license(one.digest) for one in ancestors)), {})
    return CardFacts(
        name=name,
        preset=preset,
        manifest=manifest,
        ancestors=ancestors,
        license=found,
        verdict=_evaluation(store, manifest.digest),
        promotion=promotion or {},
        rollback=rollback or {},
        line=line,
    )


def write_card(facts: CardFacts) -> str:
    """Write the whole card: front matter and text."""
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(_sections(facts)) + "\n"


def card_body(facts: CardFacts) -> str:
    """Write the card's text as MLflow shows it: what matters first, whole sections that fit."""
    note = "The whole card is README.md among the files."
    text = ""
    for section in (_headline(facts), *itertools.islice(_sections(facts), 1, None)):
        if len(text) + len(section) + len(note) + 2 > SHOWN_CHARACTERS:
            return text + note
        text += section + "\n\n"
    return text.rstrip()


def _headline(facts: CardFacts) -> str:
    """The first line of a version's description, which MLflow's list shows as it is written."""
    row = entry(facts.manifest.stage)
    if row.role == "policy":
        told = facts.verdict
        line = (told.headline or told.word) if told is not None else facts.line or NOT_EVALUATED
        return line if PLAIN.fullmatch(line) else for_markdown(line)
    metrics = facts.manifest.metrics
    shown = [one for one in row.key_metrics if one.metric in metrics]
    numbers = [f"{one.label} {metrics[one.metric]:{one.format}}" for one in shown]
    return ", ".join(numbers) or row.title


def _front_matter(facts: CardFacts) -> dict[str, Any]:
    hub = [match["id"] for one in facts.ancestors if (match := HUB.fullmatch(one.digest))]
    card = entry(facts.manifest.stage).card
    return {
        "license": "unknown",
        **facts.license,
        "library_name": "transformers",
        "pipeline_tag": card.task,
        "tags": ["quartet", "rlhf", *filter(None, [card.tag]), facts.preset],
        **({"base_model": hub, "base_model_relation": "finetune"} if hub else {}),
    }


def _sections(facts: CardFacts) -> Iterator[str]:
    manifest = facts.manifest
    yield f"# {_cell(facts.name)}"
    yield (
        f"{entry(manifest.stage).card.text} Made with preset {_cell(facts.preset)} by stage "
        f"{_cell(manifest.stage)}, digest {_digest(manifest.digest)}, seed {manifest.seed}."
    )
    yield "\n".join(["## Verdict", "", *_verdict_lines(facts)])
    yield _table("## Metrics", ("metric", "value"), _numbers(manifest.metrics))
    yield "\n".join(["## Limits", "", *_limits(facts)])
    ancestors = [(one.role, _stage(one), _short(one.digest)) for one in facts.ancestors]
    yield _table("## Lineage", ("role", "stage", "digest"), ancestors)
    data = next((one for one in facts.ancestors if _stage(one) == "prepare"), None)
    rows = [] if data is None or data.manifest is None else _numbers(data.manifest.metrics)
    named = f" of {_digest(data.digest)}" if data is not None else ""
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
            yield f"- {_cell(reason)}"
    for what, told in (("promotion", facts.promotion), ("rollback", facts.rollback)):
        lines = [f"- {what} {_cell(k)}: {for_markdown(v, SENTENCES)}" for k, v in told.items() if v]
        yield from ["", *lines] if lines else []


def _limits(facts: CardFacts) -> Iterator[str]:
    yield "- Every number is of this run's own held-out data; nothing is known beyond it."
    yield f"- {entry(facts.manifest.stage).card.limit}"
    yield "- Nobody has reviewed it for bias, safety or personal data in its training data."
    if not facts.license:
        yield "- No licence is known: what it was made from does not name one."


def _cell(text: str) -> str:
    return for_markdown(text, CELL)


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
    lines = ["| " + " | ".join(_cell(str(cell)) for cell in row) + " |" for row in rows]
    if not lines:
        return f"{title}\n\nNothing is recorded."
    rule = "|" + "---|" * len(heads)
    return "\n".join([title, "", "| " + " | ".join(heads) + " |", rule, *lines])


def _digest(text: str) -> str:
    return code_span(_short(text))


def _short(text: str) -> str:
    """The beginning of a digest, or a foreign name."""
    return text[:12] if DIGEST.fullmatch(text) else text


def _evaluation(store: Store, digest: str) -> Outcome | None:
    for folder, manifest in reversed(list(list_published(store.root, "evaluate"))):
        if manifest.inputs.get("policy") == digest:
            return read_outcome(folder)
    return None


def _folder_license(folder: Path) -> dict[str, str]:
    card, config = folder / "README.md", folder / "config.json"
    found: dict[str, str] = {}
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        front = re.match(r"---\n(.*?)\n---", text, re.S)
        with contextlib.suppress(yaml.YAMLError):
            found = _license_fields(yaml.safe_load(front[1]) if front else None)
    if not found and config.is_file():
        with contextlib.suppress(ValueError):
            found = _license_fields(json.loads(config.read_text(encoding="utf-8")))
    return found


def _hub_license(source: str) -> dict[str, str]:
    """The licence that the hub tells of `id@commit`; nothing where it does not answer."""
    match = HUB.fullmatch(source)
    if match is None:
        return {}
    try:
        info = HfApi().model_info(match["id"], revision=match["commit"], timeout=HUB_SECONDS)
        return _license_fields(info.card_data.to_dict() if info.card_data else {})
    except Exception:  # the client raises errors of several libraries; a card goes without it
        return {}


def _license_fields(content: Any) -> dict[str, str]:
    fields = ("license", "license_name", "license_link")
    known = content if isinstance(content, dict) else {}
    found = {name: known[name] for name in fields if isinstance(known.get(name), str)}
    return found if found.get("license") else {}
