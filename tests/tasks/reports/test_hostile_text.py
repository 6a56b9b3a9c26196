"""Every page with hostile text in every place that a stranger may fill."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from models.evaluation.result import Outcome
from models.rows import write_rows
from tasks.comparison.compare import _to_html, to_markdown
from tasks.comparison.runs import to_samples
from tasks.comparison.tables import Contents, compile_contents
from tasks.data.inspection.records import (
    CollectionInspection,
    Inspection,
    Leak,
    Match,
    NearDuplicates,
)
from tasks.data.report import MOJIBAKE, PreparationReport
from tasks.data.tally import FileTally, Tally
from tasks.registry.card import CardFacts, card_body, write_card
from tasks.reports.benchmarks import lm_eval_page, multiple_choice_page
from tasks.reports.data import data_page
from tasks.reports.evaluation import challenge_page, evaluation_page, models_page
from tasks.reports.ppo import ppo_page
from tasks.results.manifests import Ancestor
from tasks.results.store import Manifest
from tasks.run.spec import Result
from tests.models.evaluation.by_hand import compared
from tests.tasks.comparison.test_statistics import record
from tests.tasks.test_escaping import ATTACKS, ORDERS, kinds

ORDERS_OF_WHOLE_LETTERS = (text for name, text in ORDERS.items() if name != "half")
HOSTILE = " ".join((*ATTACKS[:8], "a | b `c` \n# head", *ORDERS_OF_WHOLE_LETTERS))


def result(folder: Path, parameters: Any = None, **files: Any) -> Result:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return Result(
        folder=folder, metrics={"ppo/iterations": 2.0}, parameters=parameters or {}, inputs={}
    )


def data(folder: Path) -> str:
    tally = Tally(labels=[HOSTILE], read=2, dropped=Counter({HOSTILE: 1}), mojibake=1)
    file = FileTally(label=HOSTILE, notes=[HOSTILE])
    file.formats[HOSTILE] = file.unread[HOSTILE] = 1
    tally.files.append(file)
    for reason in (HOSTILE, MOJIBAKE):
        tally.show(reason, file, 1, {HOSTILE: HOSTILE})
    match = Match(first=HOSTILE, second=HOSTILE, similarity=1.0)
    inspected = CollectionInspection(
        name="demonstrations", train=1, heldout=1, share=0.5, columns={},
        near_duplicates=NearDuplicates(rows=1, examples=(match,)),
    )  # fmt: skip
    leak = Leak(
        heldout="prompts", train="demonstrations", what="prompt", rows=1, exact=1, near=0,
        examples=(match,),
    )  # fmt: skip
    report = PreparationReport(
        source="folder",
        fingerprint="f",
        conversational=False,
        collections=(
            tally.report("demonstrations", train=1, heldout=1, lengths={"prompt": [1, 1]}),
        ),
        contrasts=0,
        overlaps={},
        inspection=Inspection(collections=(inspected,), leaks=(leak,)),
    )
    return data_page(result(folder, quality=asdict(report)), folder).markdown


def ppo(folder: Path) -> str:
    rows = [{"prompt": HOSTILE, "iteration": n, "completion": HOSTILE} for n in (0, 1, 2)]
    write_rows(folder / "samples.jsonl", rows)
    return ppo_page(result(folder, {"ppo": {"iterations": 2}}), folder).markdown


def questions(folder: Path) -> str:
    share = {"mean": 0.5, "low": 0.4, "high": 0.6}
    model = {
        "measures": {"accuracy": share},
        "gains": {"accuracy": share},
        "subjects": {HOSTILE: {"accuracy": share}},
        "chance": 0.25,
        "perplexity": 1.0,
        "cut_contexts": 0,
    }
    found = {"questions": HOSTILE, "rows": 1, "models": {HOSTILE: model, f"{HOSTILE} 2": model}}
    settings = {"multiple_choice": {"shots": 0, "prompt": "plain"}}
    return multiple_choice_page(result(folder, settings, results=found), folder).markdown


def harness(folder: Path) -> str:
    found = {"results": {HOSTILE: {f"{HOSTILE},{HOSTILE}": 0.5}}}
    settings = {"lm_eval": {"label": HOSTILE, "version": "1"}}
    return lm_eval_page(result(folder, settings, results=found), folder).markdown


def evaluated(view: Callable[..., Any]) -> Callable[[Path], str]:
    def page(folder: Path) -> str:
        found = replace(compared(), reference=HOSTILE)
        found.write(folder)
        rows = [
            {
                "model": model,
                "prompt": HOSTILE,
                "completion": HOSTILE,
                "scores": {"reward": float(turn)},
                "tokens": 3,
                "finished": True,
                "sample": turn,
            }
            for turn in range(2)
            for model in ("sft", "ppo")
        ]
        write_rows(folder / "samples.jsonl", rows)
        (folder / "plots").mkdir()
        return str(view(result(folder), folder / "plots").markdown)

    return page


def facts() -> CardFacts:
    values: dict[str, Any] = {
        "seed": 3, "parameters": {"ppo": {HOSTILE: HOSTILE}}, "inputs": {}, "code": "",
        "libraries": {HOSTILE: HOSTILE}, "run_id": "", "seconds": 0.0, "metrics": {HOSTILE: 1.0},
        "files": {},
    }  # fmt: skip
    manifest = Manifest(stage="ppo", digest="a" * 64, **values)
    return CardFacts(
        name=HOSTILE,
        preset=HOSTILE,
        manifest=manifest,
        ancestors=[Ancestor(role=HOSTILE, digest=HOSTILE)],
        verdict=Outcome(accepted=False, word="rejected", reasons=[HOSTILE]),
        promotion={"note": HOSTILE, HOSTILE: HOSTILE},
    )


def contents() -> Contents:
    samples = to_samples(
        {"model": model, "prompt": HOSTILE, "sample": n, "completion": f"{HOSTILE}{n}{model}",
         "scores": {"gold": float(n)}}
        for n in range(2) for model in ("sft", "ppo")
    )  # fmt: skip
    runs = [
        replace(
            record(f"{HOSTILE}{n}", verdict="rejected", parameters={HOSTILE: f"{HOSTILE}{n}"}),
            samples=samples,
            reasons=[HOSTILE],
        )
        for n in range(2)
    ]
    return compile_contents(runs)


PAGES: dict[str, Callable[[Path], str]] = {
    "data": data,
    "ppo": ppo,
    "multiple-choice": questions,
    "lm-eval": harness,
    "verdict": evaluated(evaluation_page),
    "promotion": evaluated(challenge_page),
    "models": evaluated(models_page),
    "card": lambda folder: write_card(facts()).partition("\n---\n")[2],
    "card-in-mlflow": lambda folder: card_body(facts()),
    "comparison": lambda folder: to_markdown(contents(), {}, title=HOSTILE),
}


@pytest.mark.parametrize("name", PAGES)
def test_pages_obey_no_text_of_strangers(name: str, tmp_path: Path) -> None:
    page = PAGES[name](tmp_path)
    assert "evil" in page  # it is shown
    inside = kinds(page)
    assert not inside & {"html_block", "html_inline", "image", "link_open", "fence", "code_block"}
    assert not re.search(r"://|www\.|evil@|@evil", page)
    assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066\u200b]", page)


def test_the_comparison_as_a_web_page_obeys_none_either() -> None:
    page = _to_html(contents(), {}, title=HOSTILE)
    assert "evil" in page
    assert not {"script", "img", "a", "iframe"} & set(re.findall(r"<(\w+)", page))
