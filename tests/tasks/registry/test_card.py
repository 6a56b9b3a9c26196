"""Model cards: front matter that YAML reads, texts that stay texts, lineage and licence."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.evaluation.result import Outcome
from tasks.registry.card import CardFacts, card_body, gather_facts, write_card
from tasks.results.manifests import Ancestor
from tasks.results.store import MANIFEST, Manifest, Store, write_manifest
from tests.models.evaluation.by_hand import compared

POLICY, SFT, BASE, DATA = "a" * 64, "b" * 64, "c" * 64, "d" * 64
HOSTILE = "x | y <script>alert(1)</script> [a](javascript:b) `c`\n# head"


def manifest(stage: str, digest: str, **given: Any) -> Manifest:
    values: dict[str, Any] = {
        "seed": 3, "parameters": {}, "inputs": {}, "libraries": {"torch": "2.13.0"}, "code": "",
        "run_id": "", "seconds": 0.0, "metrics": {}, "files": {},
    }  # fmt: skip
    return Manifest(stage=stage, digest=digest, **{**values, **given})


def facts(**given: Any) -> CardFacts:
    return CardFacts(
        **{
            "name": "toy-policy",
            "preset": "toy",
            "manifest": manifest("ppo", POLICY),
            **given,
        }
    )


def front(card: str) -> dict[str, Any]:
    match = re.match(r"---\n(.*?)\n---\n\n", card, re.S)
    assert match is not None
    return dict(yaml.safe_load(match[1]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A policy with its lineage: data, a base model, SFT, PPO and an evaluation."""
    store = Store(tmp_path)
    for one in (
        manifest("prepare", DATA, metrics={"data/prompts_rows": 1729.0}),
        manifest("base", BASE, inputs={"model": "e" * 64}),
        manifest("sft", SFT, inputs={"base": BASE, "demonstrations": DATA}),
        manifest("ppo", POLICY, inputs={"actor": SFT, "reference": SFT, "prompts": DATA}),
        manifest("evaluate", "f" * 64, inputs={"policy": POLICY}),
    ):
        folder = store.folder(one.stage, one.digest)
        (folder / "model").mkdir(parents=True)
        write_manifest(folder, one)
    (store.folder("evaluate", "f" * 64) / "verdict.json").write_text(
        json.dumps({"accepted": False, "reasons": ["It is longer."]})
    )
    return store


def gathered(store: Store) -> CardFacts:
    text = (store.folder("ppo", POLICY) / MANIFEST).read_bytes()
    made = Manifest.model_validate_json(text)
    return gather_facts(store, made, name="toy-policy", preset="toy")


def test_card_follows_the_lineage_and_tells_verdict_and_data(store: Store) -> None:
    found = gathered(store)
    assert [(one.role, one.digest) for one in found.ancestors] == [
        ("actor", SFT),
        ("prompts", DATA),
        ("base", BASE),
        ("model", "e" * 64),
    ]
    card = write_card(found)
    assert "| base | base | cccccccccccc |" in card
    assert "| model | outside | eeeeeeeeeeee |" in card
    assert "| data/prompts_rows | 1729 |" in card
    assert "**rejected**" in card
    assert "- It is longer." in card


def test_card_tells_the_verdict_of_a_record(store: Store) -> None:
    folder = store.folder("evaluate", "f" * 64)
    (folder / "verdict.json").unlink()
    compared().write(folder)
    card = write_card(gathered(store))
    assert "**not enough prompts**" in card
    assert "- Measured on 2 held-out prompts, fewer than the 30 needed." in card


def test_card_keeps_the_licence_that_the_source_tells(store: Store) -> None:
    assert front(write_card(gathered(store)))["license"] == "unknown"
    assert "No licence is known" in write_card(gathered(store))
    model = store.folder("base", BASE) / "model"
    (model / "config.json").write_text('{"license": "mit"}')
    assert front(write_card(gathered(store)))["license"] == "mit"
    text = "---\nlicense: other\nlicense_name: house\nlicense_link: LICENSE\n---\n# Base\n"
    (model / "README.md").write_text(text)
    told = front(write_card(gathered(store)))
    assert (told["license"], told["license_name"], told["license_link"]) == (
        "other", "house", "LICENSE",
    )  # fmt: skip
    assert "No licence is known" not in write_card(gathered(store))


def test_card_names_the_base_model_of_the_hub() -> None:
    ancestors = [Ancestor(role="model", digest=f"org/base@{'1' * 40}")]
    judge = manifest("judge", POLICY)
    told = front(write_card(facts(ancestors=ancestors)))
    assert told["base_model"] == ["org/base"]
    assert told["pipeline_tag"] == "text-generation"
    assert front(write_card(facts(manifest=judge)))["pipeline_tag"] == "text-classification"


def test_card_writes_foreign_text_as_text() -> None:
    made = manifest("ppo", POLICY, parameters={"data": {"folder": HOSTILE}})
    given = facts(
        name=HOSTILE,
        preset="toy\n---\nlicense: mit",
        manifest=made,
        verdict=Outcome(accepted=True, word="accepted", reasons=[HOSTILE]),
        promotion={"note": HOSTILE},
    )
    card = write_card(given)
    assert front(card)["license"] == "unknown"
    assert front(card)["tags"][-1] == "toy\n---\nlicense: mit"
    text = card.split("\n---\n\n", 1)[1]
    assert "<script" not in text
    assert "[a](" not in text
    assert "\n# head" not in text
    assert text.count("x \\| y &lt;script&gt;") == 4  # name, reason, note, parameter


def test_body_fits_what_mlflow_keeps() -> None:
    metrics = {f"ppo/number_{index}": index + 0.5 for index in range(400)}
    given = facts(
        manifest=manifest("ppo", POLICY, metrics=metrics),
        verdict=Outcome(accepted=True, word="accepted", reasons=["Why."]),
    )
    body = card_body(given)
    assert len(body) <= 5000
    assert "- Why." in body
    assert body.endswith("The whole card is README.md among the files.")
    assert "ppo/number_399" in write_card(given)
    assert not body.startswith("---")
    assert card_body(facts()).endswith("| torch | 2.13.0 |")


def test_card_says_nothing_of_speed_and_nothing_that_is_no_number() -> None:
    metrics = {"ppo/time/rollout_seconds": 0.5, "ppo/kl": float("nan"), "ppo/score": 0.25}
    card = write_card(facts(manifest=manifest("ppo", POLICY, metrics=metrics)))
    assert "0.25" in card
    assert "rollout" not in card
    assert "nan" not in card
