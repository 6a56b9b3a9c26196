"""Plans of pretraining: batches that grow, sources in their shares, tokens to the last one."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from models.distributed.team import Team
from models.errors import DataError
from models.families.config import ArchitectureConfig
from models.families.networks import build_model
from models.randomness import derive_seed
from models.rows import read_json, read_rows, write_rows
from models.runtime import TrainingRun
from models.training import account
from models.training.blocks import blocks_by_source
from models.training.config import PretrainConfig, SFTStageConfig
from models.training.order import batch_sizes, plan_steps, training_order
from models.training.pretraining import pretrain
from models.training.setup import GuardedTrainer, trainer_settings

SMALL = {"steps": 7, "batch_size": 4, "block_tokens": 16, "checkpoint_steps": 3}


def test_a_ramp_grows_linearly_over_its_share_of_the_steps() -> None:
    config = PretrainConfig(steps=10, batch_size=12, start_batch_size=4, ramp_share=0.4)
    # Four steps: 4 + 8 * 0/4, 1/4, 2/4, 3/4; then 12.
    assert batch_sizes(config) == [4, 6, 8, 10, 12, 12, 12, 12, 12, 12]
    assert batch_sizes(config.model_copy(update={"start_batch_size": 0})) == [12] * 10
    assert batch_sizes(config.model_copy(update={"ramp_share": 0.0})) == [12] * 10
    with pytest.raises(ValidationError, match="start_batch_size 13 exceeds batch_size 12"):
        PretrainConfig(batch_size=12, start_batch_size=13)


def test_a_plan_without_ramp_or_mixture_is_the_plain_order() -> None:
    config = PretrainConfig(**SMALL)
    lengths = [3, 5, 4, 9, 2]
    generator = torch.Generator().manual_seed(derive_seed(6, "pretrain.order"))
    order = training_order(lengths, total=28, batch_size=4, generator=generator)
    plan = plan_steps(lengths, config, seed=6, sources="abcab")
    assert plan.steps == [order[at : at + 4] for at in range(0, 28, 4)]
    assert plan.tokens(1) == {"": sum(lengths[row] for row in order[:4])}


def test_sources_have_their_shares_after_every_row() -> None:
    config = PretrainConfig(steps=50, batch_size=4, mixture="captions=0.7, film reviews=0.2,c=0.1")
    sources = ["captions"] * 11 + ["film reviews"] * 5 + ["c"] * 3 + ["not named"] * 4
    plan = plan_steps([16] * len(sources), config, seed=1, sources=sources)
    drawn: Counter[str] = Counter()
    for step, rows in enumerate(plan.steps, start=1):
        drawn.update(sources[row] for row in rows)
        for name, share in {"captions": 0.7, "film reviews": 0.2, "c": 0.1}.items():
            assert abs(drawn[name] - share * 4 * step) < 1
    assert drawn == {"captions": 140, "film reviews": 40, "c": 20}
    assert plan.learned(()) == {name: 16 * rows for name, rows in drawn.items()}
    assert plan.epochs(()) == {
        "captions": 140 / 11, "film reviews": 8.0, "c": 20 / 3, "not named": 0.0
    }  # fmt: skip
    # Each epoch of a source holds each of its rows once.
    reviews = [row for rows in plan.steps for row in rows if sources[row] == "film reviews"]
    for at in range(0, 40, 5):
        assert sorted(reviews[at : at + 5]) == [11, 12, 13, 14, 15]
    assert reviews[:5] != reviews[5:10]  # shuffled again
    # A skipped step counts for no source.
    first = Counter(sources[row] for row in plan.steps[0])
    assert plan.learned({1}) == {name: 16 * (rows - first[name]) for name, rows in drawn.items()}


@pytest.mark.parametrize("mixture", ["captions", "a=0.5,b=0", "a=1,a=2", "a=x", "=1", "a=-1"])
def test_a_mixture_names_each_source_once_with_a_weight(mixture: str) -> None:
    with pytest.raises(ValidationError, match="no list of different sources with a weight"):
        PretrainConfig(mixture=mixture)


def test_a_source_that_is_not_there_is_named() -> None:
    config = PretrainConfig(mixture="a=1,b=1")
    with pytest.raises(DataError, match=r"source 'b' fills no row .* \['a', 'c'\]"):
        plan_steps([1, 1], config, seed=0, sources=["a", "c"])


def test_blocks_of_a_source_hold_its_documents_only(tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"text": "ab"[i % 2] * 3, "source": "AB"[i % 2]} for i in range(20)])
    parts = blocks_by_source(tokenizer, path, 8, 0)
    texts = {name: tokenizer.decode(torch.cat(list(parts[name]))) for name in parts}
    assert {name: set(text) & set("ab") for name, text in texts.items()} == {"A": {"a"}, "B": {"b"}}


@pytest.fixture(scope="module")
def mixed_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mixed") / "corpus.jsonl"
    words = ["the cat sat on the mat", "what is the sum of two and three?"]
    names = ["captions", "reviews"]
    write_rows(path, [{"text": words[i % 2], "source": names[i % 2]} for i in range(40)])
    return path


def test_pretraining_counts_tokens_by_source_and_step(
    mixed_corpus: Path,
    tokenizer_folder: Path,
    tiny_architecture: ArchitectureConfig,
    make_run: Callable[..., TrainingRun],
    tmp_path: Path,
) -> None:
    config = PretrainConfig(
        **SMALL, start_batch_size=1, ramp_share=0.5, mixture="captions=3,reviews=1"
    )

    def run(name: str, **changes: Any) -> dict[str, float]:
        (tmp_path / name).mkdir(exist_ok=True)
        return pretrain(
            tokenizer=tokenizer_folder,
            corpus=mixed_corpus,
            heldout=mixed_corpus,
            architecture=tiny_architecture,
            config=config,
            run=make_run(tmp_path / name / "model", **changes),
        )

    metrics = run("a")
    # round(0.5 * 7) = 4 steps of 1, 1, 2, 3 rows, then 4 each: 19 rows of 16 tokens, of which
    # 0.75 * 19 = 14.25 are captions, to less than one row.
    rows = read_rows(tmp_path / "a" / "batches.jsonl")
    assert [row["rows"] for row in rows] == [1, 1, 2, 3, 4, 4, 4]
    assert [sum(row["tokens"].values()) for row in rows] == [16, 16, 32, 48, 64, 64, 64]
    assert not any(row["skipped"] for row in rows)
    assert metrics["pretrain/tokens"] == 19 * 16
    assert metrics["pretrain/source_tokens/captions"] == 14 * 16
    assert metrics["pretrain/source_tokens/reviews"] == 5 * 16
    for name in ("captions", "reviews"):
        assert (
            sum(row["tokens"].get(name, 0) for row in rows)
            == metrics[f"pretrain/source_tokens/{name}"]
        )
        assert metrics[f"pretrain/source_epochs/{name}"] > 0

    def kill(found: Any, step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("b", log=kill)
    assert run("b") == metrics
    weights = [tmp_path / name / "model" / "model.safetensors" for name in ("a", "b")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_norms_biases_and_embeddings_are_left_out_of_weight_decay(
    family: Any, tokenizer: Any, make_run: Callable[..., TrainingRun], tmp_path: Path
) -> None:
    from transformers import TrainingArguments

    architecture = ArchitectureConfig(family=family, layers=1, width=16, heads=2, context=32)
    decayed = {}
    for embeddings in (True, False):
        config = SFTStageConfig(weight_decay=0.1)
        settings = trainer_settings(config, make_run(tmp_path / "a"), stage="sft", steps=1)
        trainer = GuardedTrainer(
            model=build_model(architecture, tokenizer, seed=0),
            config=config,
            args=TrainingArguments(**settings),
            decay_embeddings=embeddings,
        )
        trainer.create_optimizer()
        names = {id(weight): name for name, weight in trainer.model.named_parameters()}
        decayed[embeddings] = {
            names[id(weight)]
            for group in trainer.optimizer.param_groups
            if group["weight_decay"] == 0.1
            for weight in group["params"]
        }
    matrices = {name for name in decayed[False] if name.endswith(".weight")}
    assert matrices == decayed[False] != set()
    assert not [name for name in matrices if "norm" in name or "ln_" in name or "emb" in name]
    tables = {"model.embed_tokens.weight"}
    if family == "gpt2":
        tables = {"transformer.wte.weight", "transformer.wpe.weight"}
    assert decayed[True] - decayed[False] == tables
    assert decayed[False] < decayed[True]


def test_pace_lies_with_the_checkpoints_and_changes_no_metric(
    corpus_file: Path,
    tokenizer_folder: Path,
    tiny_architecture: ArchitectureConfig,
    make_run: Callable[..., TrainingRun],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def run() -> dict[str, float]:
        return pretrain(
            tokenizer=tokenizer_folder,
            corpus=corpus_file,
            heldout=corpus_file,
            architecture=tiny_architecture,
            config=PretrainConfig(**SMALL),
            run=make_run(tmp_path / "a"),
        )

    caplog.set_level("INFO", logger="models.training.account")
    metrics = run()
    size = metrics["pretrain/parameters"]
    assert metrics["pretrain/tokens_per_parameter"] == 7 * 4 * 16 / size
    assert "448 tokens for" in caplog.text
    assert "tokens/s" in caplog.text
    path = tmp_path / "a.checkpoints" / "pace.json"
    found = read_json(path)
    assert found["tokens_per_second"] > 0
    assert 0 < found["model_flops_utilisation"] < 1
    assert run() == metrics  # which only publishes again
    assert read_json(path) == found


@pytest.mark.parametrize(
    ("team", "processes"), [(Team(0, 1), 1), (Team(0, 2), 2), (Team(0, 2, tensor_parallel=2), 4)]
)
def test_pace_compares_with_what_all_processes_can_do(
    make_network: Callable[..., Any],
    make_run: Callable[..., TrainingRun],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    team: Team,
    processes: int,
) -> None:
    monkeypatch.setattr(account, "multiplication_rate", lambda device, dtype: 1e12)
    monkeypatch.setattr(account, "current_team", lambda: team)
    config = PretrainConfig(**SMALL)
    plan = plan_steps([16] * 28, config, seed=0)
    pace = account.Pace(plan, config, make_run(tmp_path / "a"))
    pace.on_train_begin(None, None, None, model=make_network("llama"))
    assert pace._rate == processes * 1e12
