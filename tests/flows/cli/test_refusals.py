"""What can be known is refused before anything starts: exit status 2, one line, no run anywhere."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from flows.forms import RunForm
from flows.pipeline import rlhf_pipeline
from models.errors import ModelError
from models.rows import write_rows

DIGEST = "ab" * 32

CASES: dict[str, tuple[Sequence[str], str]] = {  # settings of a run, or the words of a command
    "base model that is nowhere": (["base.source=/no/such/folder"], "is no folder here"),
    "folder without a model": (["base.source={empty}"], "config.json of"),
    "base model of a wrong architecture": (
        ["base.source={classifier}"],
        "holds a LlamaForSequenceClassification, a base model",
    ),
    "registered name that does not exist": (["base.source=models:/nobody@champion"], "nobody"),
    "stage that was never published": (["base.source=sft/ffffffff"], "names 0 published stages"),
    "stage of a wrong role": ([f"base.source=reward/{DIGEST}"], "is the result of stage reward"),
    "judge that is not trained": (["evaluate.judge=judge"], "the judges are reward, gold"),
    "gold judge of own data": (["data.folder={own}", "evaluate.judge=gold"], "judges are reward;"),
    "endpoint without an address": (["evaluate.judge=endpoint"], "endpoint.url is ''"),
    "endpoint that does not answer": (
        [
            "evaluate.judge=endpoint",
            "evaluate.endpoint.url=http://127.0.0.1:9/v1",
            "evaluate.endpoint.model=m",
        ],
        "does not answer",
    ),
    "prompts that cannot decide": (["evaluate.prompts=29"], "below 30 prompts"),
    "one sample a prompt": (["evaluate.samples_per_prompt=1"], "choose at least 2"),
    "more matches than completions": (
        ["evaluate.prompts=30", "evaluate.min_matched_completions=121"],
        "30 prompts with 4 samples give 120",
    ),
    "data with too few held-out prompts": (["data.folder={own}"], "leave 2 held-out prompts"),
    "data with wrong columns": (["data.folder={wrong}"], "sft.jsonl"),
    "named source that is nowhere": (
        [
            "data.source=sources",
            "data.corpus={own}/pretrain.jsonl",
            "data.preferences={empty}/no.csv",
        ],
        "no.csv for preferences: got nothing there",
    ),
    "weight of what has none": (
        ["data.source=sources", "data.corpus={own}/pretrain.jsonl", "data.preferences={own}=0.5"],
        "only texts of the corpus are weighted",
    ),
    "named sources with too few held-out prompts": (
        [
            "data.source=sources",
            "data.corpus={own}/pretrain.jsonl",
            "data.preferences={own}/pairs_train.jsonl",
            "data.demonstrations={own}/sft.jsonl",
        ],
        "leave 2 held-out prompts",
    ),
    "evaluate: a model that is nowhere": (("evaluate", "sft/ffffffff"), "names 0 published"),
    "benchmark: a folder without a model": (
        ("benchmark", "{empty}", "--file", "{own}/sft.jsonl"),
        "config.json of",
    ),
    "data folder that is nowhere": (["data.folder={empty}/none"], "nothing there"),
}

PROGRAM = """
import json, sys
from typer.testing import CliRunner
from flows.cli.app import app
for words in json.loads(sys.argv[1]):
    done = CliRunner().invoke(app, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    print(json.dumps([done.exit_code, done.stdout, done.stderr]))
"""


@dataclass(frozen=True, kw_only=True)
class Refusals:
    """The home folder after all cases, and what each printed: status, stdout, stderr."""

    home: Path
    printed: dict[str, tuple[int, str, str]]


def _classifier(folder: Path) -> None:
    folder.mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"score.weight": np.zeros((1, 8), np.float32)}, folder / "model.safetensors")


def _own_data(folder: Path) -> None:
    folder.mkdir()
    demonstrations = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(100)]
    pairs = [{"prompt": f"q{n}", "chosen": f"yes {n}", "rejected": "no"} for n in range(40)]
    write_rows(folder / "pretrain.jsonl", [{"text": f"some text {n}"} for n in range(40)])
    write_rows(folder / "sft.jsonl", demonstrations)
    write_rows(folder / "pairs_train.jsonl", pairs)


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> Refusals:
    """Every case by the real command, in one process that has no server to ask."""
    root = tmp_path_factory.mktemp("refusals")
    places = {name: root / name for name in ("empty", "classifier", "own", "wrong")}
    places["empty"].mkdir()
    _classifier(places["classifier"])
    _own_data(places["own"])
    _own_data(places["wrong"])
    write_rows(places["wrong"] / "sft.jsonl", [{"question": "q", "reply": "r"}])
    home = root / "home"
    home.mkdir()
    (home / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    words = [
        [one.format(**places) for one in (given if isinstance(given, tuple) else _run(given))]
        for given, _ in CASES.values()
    ]
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("QUARTET", "PREFECT"))
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(words)],
        capture_output=True,
        text=True,
        env={**environment, "QUARTET_HOME": str(home), "PREFECT_API_URL": "http://127.0.0.1:9/api"},
    )
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    return Refusals(home=home, printed=dict(zip(CASES, printed, strict=True)))


def _run(settings: Sequence[str]) -> list[str]:
    preset = "reviews" if any(one.startswith("data.") for one in settings) else "quickstart"
    return ["run", preset, *(word for one in settings for word in ("--set", one))]


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_input_is_refused_in_one_line(refusals: Refusals, case: str) -> None:
    status, out, err = refusals.printed[case]
    assert (status, out) == (2, ""), err
    assert err.startswith("quartet: ")
    assert err.count("\n") == 1, err
    assert CASES[case][1] in err


def test_refusals_leave_no_run_and_nothing_computed(refusals: Refusals) -> None:
    assert {path.name for path in refusals.home.iterdir()} <= {"mlflow.db", "cache"}
    remembered = refusals.home / "cache"
    assert not remembered.exists() or [path.name for path in remembered.iterdir()] == ["code"]
    assert runs_in(refusals.home) == 0


def runs_in(home: Path) -> int:
    with sqlite3.connect(home / "mlflow.db") as database:
        return int(database.execute("SELECT count(*) FROM runs").fetchone()[0])


def test_a_run_from_the_form_is_refused_before_its_mlflow_run(
    prefect_server: str, home: Path, first_home: Any
) -> None:
    form = RunForm.of("quickstart", [*first_home.TINY, "base.source=/no/such/folder"])
    with pytest.raises(ModelError, match="is no folder here"):
        rlhf_pipeline(form)
    assert runs_in(home) == 0
    assert not (home / "store").exists()
