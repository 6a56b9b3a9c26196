"""Pretraining of BERT and BART: learns, resumes to the bit, measures against baselines."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BartForConditionalGeneration, BertForPreTraining

from models.errors import DataError, ModelError, ParameterError
from models.families.config import ArchitectureConfig
from models.families.networks import build_model
from models.language.folders import load_tokenizer
from models.objectives.config import MaskingConfig
from models.objectives.masking import IGNORED
from models.rows import read_rows, write_rows
from models.runtime import TrainingRun
from models.training import reconstruction
from models.training.config import PretrainConfig, SpikeConfig
from models.training.denoising import Denoising, pretrain_denoising, restore
from models.training.masked import MaskedLanguageModelling, predict, pretrain_masked
from models.training.reconstruction import DrawnRows, Objective
from tests.models.objectives.tiny import make_pieces, make_tokenizer

CONFIG = PretrainConfig(
    steps=7, batch_size=6, block_tokens=32, learning_rate=5e-3, checkpoint_steps=2
)
TEXTS = [
    "the cat sat on the mat and slept all day",
    "a dog ran home over the old green hill. it was late. nobody saw it",
    "what is the sum of two and three? it is five.",
    "two men play in the park",
]
LEARN: dict[str, Any] = {"bert": pretrain_masked, "bart": pretrain_denoising}
NETWORKS: dict[str, Any] = {"bert": BertForPreTraining, "bart": BartForConditionalGeneration}
TASKS: dict[str, type[Objective]] = {"bert": MaskedLanguageModelling, "bart": Denoising}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer and texts."""
    found = tmp_path_factory.mktemp("given")
    make_tokenizer(TEXTS).save_pretrained(found / "tokenizer")
    write_rows(
        found / "corpus.jsonl",
        [{"text": TEXTS[row % 4], "source": f"part {row % 2}"} for row in range(24)],
    )
    write_rows(found / "heldout.jsonl", [{"text": text} for text in TEXTS])
    return found


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Any:
    return load_tokenizer(folder / "tokenizer")


@pytest.fixture(params=["bert", "bart"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def architecture(family: Any) -> ArchitectureConfig:
    layers = 2 if family == "bert" else 1
    return ArchitectureConfig(family=family, layers=layers, width=32, heads=2, context=32)


@pytest.fixture
def run(
    family: str, tmp_path: Path, folder: Path, make_run: Callable[..., TrainingRun]
) -> Callable[..., dict[str, float]]:
    def start(name: str = "a", **changes: Any) -> dict[str, float]:
        given: dict[str, Any] = {
            "tokenizer": folder / "tokenizer",
            "corpus": folder / "corpus.jsonl",
            "heldout": folder / "heldout.jsonl",
            "architecture": architecture(family),
            "config": CONFIG,
        }
        (tmp_path / name).mkdir(exist_ok=True)
        wanted = {key: changes.pop(key) for key in {"seed", "log"} & changes.keys()}
        found: dict[str, float] = LEARN[family](
            **given | changes, run=make_run(tmp_path / name / "model", **wanted)
        )
        return found

    return start


def published(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and "checkpoint" not in str(path)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def rows_of(task: Objective, folder: Path, seed: int = 0) -> list[Any]:
    pieces = make_pieces(task.encoder, folder, TEXTS, task.room, task.least_words)
    rows = DrawnRows(task, pieces, range(len(pieces)), seed)
    return [rows[number] for number in range(len(rows))]


def test_it_learns_and_publishes_a_model_with_samples(
    run: Any, family: str, tmp_path: Path
) -> None:
    seen: dict[int, dict[str, float]] = {}
    config = CONFIG.model_copy(update={"steps": 150, "checkpoint_steps": 75, "batch_size": 16})
    final = run(config=config, log=lambda m, step: seen.setdefault(step, {}).update(m))
    assert final["pretrain/heldout_loss"] < seen[75]["pretrain/heldout_loss"]
    assert seen[150]["pretrain/loss"] < seen[1]["pretrain/loss"]
    assert {step for step in seen if "pretrain/heldout_loss" in seen[step]} == {75, 150}
    accuracy = "masked_accuracy" if family == "bert" else "restored_accuracy"
    assert final[f"pretrain/{accuracy}"] > final[f"pretrain/{accuracy}_unigram"]
    model = NETWORKS[family].from_pretrained(tmp_path / "a" / "model")
    assert final["pretrain/parameters"] == sum(one.numel() for one in model.parameters())
    assert len(read_rows(tmp_path / "a" / "samples.jsonl")) >= len(TEXTS)


class Killed(BaseException):
    """Ends a run as a signal would: no handler of errors catches it."""


def test_a_killed_run_resumes_to_the_same_bits(run: Any, tmp_path: Path) -> None:
    def kill(metrics: Mapping[str, float], step: int) -> None:
        if step == 5:
            raise Killed

    config = CONFIG.model_copy(
        update={"start_batch_size": 2, "ramp_share": 0.5, "mixture": "part 0=0.5, part 1=0.5"}
    )
    whole = run("whole", config=config)
    sizes = [row["rows"] for row in read_rows(tmp_path / "whole" / "batches.jsonl")]
    assert sizes == [2, 3, 4, 5, 6, 6, 6]  # round(0.5 * 7) = 4 steps from 2 to 6
    with pytest.raises(Killed):
        run("killed", config=config, log=kill)
    assert not (tmp_path / "killed" / "model").exists()
    steps: list[int] = []

    def log(metrics: Mapping[str, float], step: int) -> None:
        steps.append(step)

    assert run("killed", config=config, log=log) == whole
    assert min(steps) == 5  # from checkpoint 4
    assert published(tmp_path / "killed") == published(tmp_path / "whole")


def test_seeds_change_weights_and_rows_but_not_what_is_held_out(
    run: Any, family: str, tmp_path: Path
) -> None:
    one, other = run("a"), run("b", seed=1)
    assert one != other
    baselines = [name for name in one if name.endswith(("_unigram", "_majority"))]
    assert len(baselines) == (3 if family == "bert" else 2)
    assert all(one[name] == other[name] for name in baselines)
    texts = [
        [row["text" if family == "bert" else "noisy"] for row in read_rows(tmp_path / name)]
        for name in ("a/samples.jsonl", "b/samples.jsonl")
    ]
    assert texts[0] == texts[1]


def test_rows_differ_between_epochs_and_seeds(family: str, encoder: Any, tmp_path: Path) -> None:
    task = TASKS[family](encoder, CONFIG)
    pieces = make_pieces(encoder, tmp_path, TEXTS, task.room, task.least_words)
    rows = DrawnRows(task, pieces, [0, 0, 0], 5)
    assert rows[0] == rows[0]
    assert rows[0] != rows[1] or rows[1] != rows[2]
    assert rows[0] != DrawnRows(task, pieces, [0, 0, 0], 6)[0]


def test_micro_batches_change_rounding_only(run: Any) -> None:
    losses: dict[str, list[float]] = {"a": [], "b": []}
    for name, most in (("a", CONFIG.tokens_per_microbatch), ("b", 40)):
        config = CONFIG.model_copy(update={"tokens_per_microbatch": most, "checkpoint_steps": 7})
        run(
            name,
            config=config,
            log=lambda m, _, name=name: losses[name].append(m.get("pretrain/loss", 0.0)),
        )
    # Sums in another order: float32 leaves 1e-7 of each term, seven steps some of those.
    assert losses["a"] == pytest.approx(losses["b"], rel=1e-5)


def test_members_of_a_team_add_up_to_the_whole_batch(
    family: str, encoder: Any, tmp_path: Path
) -> None:
    task = TASKS[family](encoder, CONFIG)
    model = build_model(architecture(family), encoder, seed=0)
    rows = rows_of(task, tmp_path)
    targets = torch.tensor(sum(one != IGNORED for row in rows for one in row["labels"]))
    whole = task.loss(model, task.collate(rows), targets).detach()
    idle = task.without_effect(rows[0])
    parts = [rows[0::2], rows[1::2], [idle]]
    shares = [task.loss(model, task.collate(part, len(rows)), targets) for part in parts]
    assert sum(float(one.detach()) for one in shares) == pytest.approx(float(whole), rel=1e-6)
    assert float(shares[-1].detach()) == 0.0
    shares[-1].backward()  # a member without rows takes part


def test_the_loss_is_transformers_own(family: str, encoder: Any, tmp_path: Path) -> None:
    """Padding, unchosen tokens and the decoder's shift are as its models have them."""
    task = TASKS[family](encoder, CONFIG)
    model = build_model(architecture(family), encoder, seed=0)
    batch = task.collate(rows_of(task, tmp_path))
    given = {name: one for name, one in batch.items() if name != "next_sentence_weight"}
    with torch.no_grad():
        found = task.loss(model, batch, (batch["labels"] != IGNORED).sum())
        own = model(**given).loss
    assert float(found) == pytest.approx(float(own), rel=1e-6)


def test_metrics_are_those_of_rows_one_by_one(family: str, encoder: Any, tmp_path: Path) -> None:
    """The slow oracle: each row alone, unpadded, in float64, counted by hand."""
    task = TASKS[family](encoder, CONFIG)
    pieces = make_pieces(encoder, tmp_path, TEXTS, task.room, task.least_words)
    unigram = reconstruction.unigram_logprobs(pieces, encoder)
    model = build_model(architecture(family), encoder, seed=0)
    found = reconstruction.HeldOutRows(task, pieces, unigram).measure(model)
    counts = Counter(id for number in range(len(pieces)) for id in pieces[number].ids)
    counts[encoder.eos_token_id] += len(pieces)
    total = sum(counts.values()) + len(encoder)
    [(frequent, _)] = counts.most_common(1)
    right = loss = same = baseline = tokens = 0.0
    model = model.double()
    for row in rows_of(task, tmp_path, reconstruction.HELD_OUT_SEED):
        names = ("input_ids", "token_type_ids", "labels")
        given = {name: torch.tensor([row[name]]) for name in names if name in row}
        output = model(**given)
        logits = output.prediction_logits if family == "bert" else output.logits
        for at, label in enumerate(row["labels"]):
            if label == IGNORED:
                continue
            tokens += 1
            right += int(logits[0, at].argmax()) == label
            loss -= float(logits[0, at].log_softmax(-1)[label])
            same += label == frequent
            baseline -= float(torch.tensor((counts[label] + 1) / total).double().log())
    names = ("masked_accuracy", "masked_loss") if family == "bert" else (
        "restored_accuracy", "heldout_loss"
    )  # fmt: skip
    assert found[f"pretrain/{names[0]}"] == pytest.approx(right / tokens)
    assert found[f"pretrain/{names[1]}"] == pytest.approx(loss / tokens, rel=1e-5)
    assert found[f"pretrain/{names[0]}_unigram"] == pytest.approx(same / tokens)
    assert found[f"pretrain/{names[1]}_unigram"] == pytest.approx(baseline / tokens, rel=1e-5)


def test_whole_words_are_those_of_the_tokenizer(encoder: Any, tmp_path: Path) -> None:
    masking = MaskingConfig(whole_words=True, share=0.4)
    task = MaskedLanguageModelling(encoder, CONFIG.model_copy(update={"masking": masking}))
    for row in rows_of(task, tmp_path):
        labels = row["labels"]
        pairs = zip(row["input_ids"], labels, strict=True)
        ids = [seen if label == IGNORED else label for seen, label in pairs]
        middle, end = (at for at, id in enumerate(ids) if id == encoder.sep_token_id)
        for start, stop in ((1, middle), (middle + 1, end)):
            text = encoder.decode(ids[start:stop])
            words = encoder(text, add_special_tokens=False).word_ids()
            assert len(words) == stop - start
            hidden = [label != IGNORED for label in labels[start:stop]]
            found = set(zip(words, hidden, strict=True))
            assert len(found) == len(set(words))  # of each word all tokens or none
        assert any(label != IGNORED for label in labels)


def test_berts_samples_show_what_its_head_says(encoder: Any, tmp_path: Path) -> None:
    task = MaskedLanguageModelling(encoder, CONFIG)
    model = build_model(architecture("bert"), encoder, seed=0)
    row = rows_of(task, tmp_path)[1]
    with torch.no_grad():
        [sample] = task.samples(model, [row])
        logits, next_logits = predict(model, task.collate([row]))
    chosen = [(a, b) for a, b in zip(row["input_ids"], row["labels"], strict=True) if b != IGNORED]
    assert [one["right"] for one in sample["answers"]] == [encoder.decode([b]) for _, b in chosen]
    assert [one["seen"] for one in sample["answers"]] == [encoder.decode([a]) for a, _ in chosen]
    first = sample["answers"][0]["top"]
    assert first[0]["token"] == encoder.decode([int(logits[0].argmax())])
    assert [one["probability"] for one in first] == sorted(
        (one["probability"] for one in first), reverse=True
    )
    assert sample["is_next"] == (row["next_sentence_label"] == [0])
    assert sample["is_next_probability"] == pytest.approx(float(next_logits.softmax(-1)[0, 0]))


def test_restoring_is_transformers_greedy_decoding(encoder: Any, tmp_path: Path) -> None:
    task = Denoising(encoder, CONFIG)
    model = build_model(architecture("bart"), encoder, seed=3)
    batch = task.collate(rows_of(task, tmp_path))
    with torch.no_grad():
        found = restore(model, batch, 12)
    generated = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        do_sample=False,
        num_beams=1,
        max_new_tokens=12,
    )[:, 1:].tolist()
    eos = encoder.eos_token_id
    until = [row.index(eos) if eos in row else len(row) for row in found]
    assert [row[:end] for row, end in zip(found, until, strict=True)] == [
        row[:end] for row, end in zip(generated, until, strict=True)
    ]


def test_what_cannot_work_is_refused(
    run: Any, family: str, folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match="exceeds the context"):
        run(config=CONFIG.model_copy(update={"block_tokens": 64}))
    with pytest.raises(ModelError, match="no mask"):
        run(tokenizer=tokenizer_folder)
    write_rows(tmp_path / "empty.jsonl", [{"text": ""}])
    with pytest.raises(DataError, match="holds no document"):
        run(heldout=tmp_path / "empty.jsonl")


def test_batches_grow_sources_are_mixed_and_spikes_undone_as_in_pretraining(
    run: Any, family: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "mixed.jsonl"
    write_rows(corpus, [{"text": TEXTS[row % 4], "source": "ab"[row % 2]} for row in range(24)])
    changes = {"start_batch_size": 2, "ramp_share": 0.6, "mixture": "a=3,b=1"}
    spikes = SpikeConfig(recover=True)
    config = CONFIG.model_copy(update=changes | {"spikes": spikes})
    original = reconstruction.RowTrainer.compute_loss

    def breaks_once(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = original(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step == 4 else loss  # in step 5

    monkeypatch.setattr(reconstruction.RowTrainer, "compute_loss", breaks_once)
    metrics = run(corpus=corpus, config=config)
    # round(0.6 * 7) = 4 steps of 2, 3, 4, 5 rows, then 6.
    rows = read_rows(tmp_path / "a" / "batches.jsonl")
    assert [row["rows"] for row in rows] == [2, 3, 4, 5, 6, 6, 6]
    assert [row["step"] for row in rows if row["skipped"]] == [5]
    for source in "ab":
        learned = sum(row["tokens"].get(source, 0) for row in rows if not row["skipped"])
        assert metrics[f"pretrain/source_tokens/{source}"] == learned > 0
    assert metrics["pretrain/tokens"] == sum(
        metrics[f"pretrain/source_tokens/{one}"] for one in "ab"
    )
    assert run("b", corpus=corpus, config=config) == metrics
    assert published(tmp_path / "a") == published(tmp_path / "b")
