"""A run on rows that the model's chat template refuses ends before any training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.forms import RunForm, StageForm
from flows.pipeline import rlhf_pipeline
from flows.planning import plan as planning
from flows.planning.plan import plan_of
from flows.stages import sft_flow
from models.errors import DataError
from models.rows import write_rows
from tests.strict_template import ALTERNATING

REFUSAL = (
    r"refuses 1 of \d+ rows \(held-out prompts: 1\); nothing was trained.*no system message, "
    r"please: prompts_heldout.jsonl, row \d+ \(system, user\).*data.fold_system=true"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model whose template wants turns that alternate, without a system message."""
    from models.families.config import ArchitectureConfig
    from models.families.networks import build_model
    from models.language.config import TokenizerConfig
    from models.language.folders import load_tokenizer, save_model
    from models.language.tokenizer import train_tokenizer

    out = tmp_path_factory.mktemp("strict")
    write_rows(out / "corpus.jsonl", [{"text": "a boat on the lake"}])
    train_tokenizer(
        corpus=out / "corpus.jsonl",
        config=TokenizerConfig(vocab_size=300),
        context=64,
        out=out / "tokenizer",
    )
    tokenizer = load_tokenizer(out / "tokenizer")
    tokenizer.chat_template = ALTERNATING
    size = ArchitectureConfig(layers=1, width=16, heads=2, context=64)
    save_model(build_model(size, tokenizer, seed=0), tokenizer, out / "model")
    return out / "model"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files; one held-out prompt of eight has a system message."""
    folder = tmp_path_factory.mktemp("data")

    def user(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    rows = [{"prompt": user(f"where is boat {number}?")} for number in range(40)]
    write_rows(folder / "sft.jsonl", [row | {"completion": "on the lake"} for row in rows])
    pair = {"chosen": "on the lake", "rejected": "no idea"}
    write_rows(folder / "pairs_train.jsonl", [row | pair for row in rows])
    held_out = [{"prompt": user(f"who has boat {number}?")} for number in range(40)]
    held_out[5]["prompt"].insert(0, {"role": "system", "content": "be short"})
    write_rows(folder / "prompts_test.jsonl", held_out)
    return folder


@pytest.fixture
def settings(model: Path, data: Path) -> list[str]:
    return ["data.source=folder", f"data.folder={data}", f"base.source={model}", "ppo.ptx_coef=0"]


def test_a_plan_of_small_files_refuses_them(
    new_home: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, settings: list[str]
) -> None:
    home = new_home()
    home.set(monkeypatch)
    form = RunForm.of("reviews", [*home.SMALL, *settings])
    with pytest.raises(DataError, match=REFUSAL):
        plan_of(rlhf_pipeline, form)
    assert not (home.path / "store").exists()


def test_a_run_stops_after_adoption_and_the_next_one_before_it_starts(
    prefect_server: str,
    new_home: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    settings: list[str],
) -> None:
    """Files too large to be read for the plan; and then those that are prepared already."""
    home = new_home()
    monkeypatch.setattr(planning, "MOST_COUNTED_BYTES", 0)
    with pytest.raises(DataError, match=REFUSAL):
        home.run("reviews", *home.SMALL, *settings)
    stages = {path.name for path in (home.path / "store").iterdir() if any(path.iterdir())}
    assert stages == {"prepare", "base"}
    home.set(monkeypatch)
    with pytest.raises(DataError, match=REFUSAL):
        plan_of(rlhf_pipeline, RunForm.of("reviews", [*home.SMALL, *settings]))


def test_a_single_stage_is_refused_too(
    new_home: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    settings: list[str],
    model: Path,
) -> None:
    home = new_home()
    home.set(monkeypatch)
    with pytest.raises(DataError, match=REFUSAL):
        plan_of(sft_flow, str(model), StageForm.of("reviews", [*home.SMALL, *settings]))
