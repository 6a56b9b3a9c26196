"""Best-of-n and SFT: what is chosen, against a slow search; what is learned; what a kill costs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import DataError
from models.language import scoring
from models.language.config import SamplingConfig
from models.language.folders import load_causal_model, load_reward_model, save_model
from models.language.generation import encode_to_fit, sample_completions
from models.language.likelihood import held_out_loss
from models.language.scoring import ScoreMoments, score_sequences, write_score_moments
from models.language.tokenizer import decode_completion, encode_prompts
from models.randomness import derive_seed
from models.reward import rejection
from models.reward.rejection import train_best_of_n
from models.rows import read_rows, write_rows
from models.runtime import TrainingRun, ignore
from models.training.config import BestOfNConfig, SFTStageConfig
from tests.models.distributed.processes import in_team

WORDS = ["the cat", "a dog ran", "what is the sum", "home over", "你好", "slept all day", "two and"]
SAMPLES = 24
SAMPLING = SamplingConfig(temperature=0.8, max_completion_tokens=6)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Any], tokenizer: Any
) -> Path:
    """An SFT model that ends some of its completions, a reward model, prompts, demonstrations."""
    folder = tmp_path_factory.mktemp("rejection")
    for name, score_head in (("sft", False), ("reward", True)):
        model = make_network(
            "llama", vocab=len(tokenizer), score_head=score_head, seed=score_head, spread=0.1
        )
        model.config.pad_token_id = tokenizer.pad_token_id
        save_model(model, tokenizer, folder / name)
    write_score_moments(folder / "reward", ScoreMoments(mean=0.1, std=0.5, raw_std=0.5, samples=32))
    write_rows(folder / "prompts.jsonl", [{"prompt": text} for text in WORDS])
    write_rows(folder / "heldout.jsonl", [{"prompt": "a dog", "completion": "ran home"}])
    return folder


def run(folder: Path, out: Path, prompts: Path | None = None) -> dict[str, Any]:
    (out / "out").mkdir(parents=True, exist_ok=True)
    logged: dict[str, float] = {}
    metrics = train_best_of_n(
        sft=folder / "sft",
        reward=folder / "reward",
        prompts=prompts or folder / "prompts.jsonl",
        heldout=folder / "heldout.jsonl",
        config=BestOfNConfig(samples_per_prompt=SAMPLES),
        training=SFTStageConfig(epochs=20, batch_size=4, learning_rate=3e-3, checkpoint_steps=5),
        sampling=SAMPLING,
        run=TrainingRun(
            out=out / "out", checkpoints=out / "checkpoints", seed=3, device="cpu",
            log=lambda found, step: logged.update(found),
        ),
    )  # fmt: skip
    return {"metrics": metrics, "logged": logged}


@pytest.fixture(scope="module")
def outcome(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rejection, "CHUNK_PROMPTS", 3)  # three chunks
        return out, run(folder, out)


def test_the_best_whole_completion_of_each_prompt_is_chosen(
    folder: Path, outcome: tuple[Path, dict[str, Any]], tokenizer: Any
) -> None:
    """Each chunk sampled again from its seed, each completion scored alone."""
    actor, judge = load_causal_model(folder / "sft"), load_reward_model(folder / "reward")
    wanted = {}
    for number, start in enumerate((0, 3, 6)):
        prompts = WORDS[start : start + 3]
        encoded = encode_to_fit(tokenizer, actor, prompts, SAMPLING)
        seed = derive_seed(3, f"best-of-n.{number}")
        completions = sample_completions(
            actor, [ids for ids in encoded for _ in range(SAMPLES)], sampling=SAMPLING,
            eos_token_id=tokenizer.eos_token_id, generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        for place, prompt in enumerate(prompts):
            found = []
            for one in completions[place * SAMPLES : (place + 1) * SAMPLES]:
                text = decode_completion(tokenizer, one.token_ids, prompt)
                if one.finished and text:
                    score = score_sequences(judge, [[*encoded[place], *one.token_ids]])
                    found.append((float(score), text))
            if found:
                wanted[prompt] = max(found, key=lambda pair: pair[0])
    assert 0 < len(wanted) < len(WORDS)  # of some all were cut
    out, done = outcome
    rows = read_rows(out / "out" / "chosen.jsonl")
    assert {row["prompt"]: row["completion"] for row in rows} == {
        prompt: text for prompt, (_, text) in wanted.items()
    }
    for row in rows:
        assert row["score"] == pytest.approx(wanted[row["prompt"]][0], abs=1e-4)
    metrics = done["metrics"]
    assert metrics["best-of-n/prompts"] == metrics["best-of-n/rows"] == len(wanted)
    assert metrics["best-of-n/dropped_prompts"] == len(WORDS) - len(wanted)
    gains = [(row["score"] - row["mean_score"]) / 0.5 for row in rows]
    assert metrics["best-of-n/score_gain"] == pytest.approx(sum(gains) / len(gains))


def test_the_policy_learns_what_was_chosen_under_the_stages_own_name(
    folder: Path, outcome: tuple[Path, dict[str, Any]], tokenizer: Any
) -> None:
    out, done = outcome
    rows = read_rows(out / "out" / "chosen.jsonl")
    prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows], 64)
    completions = [
        [*tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id] for row in rows
    ]
    before, after = (
        held_out_loss(load_causal_model(path), prompts, completions, 1000).mean
        for path in (folder / "sft", out / "out" / "model")
    )
    assert after < before - 1.0
    assert {name.split("/")[0] for name in done["metrics"]} == {"best-of-n"}
    assert {name.split("/")[0] for name in done["logged"]} == {"best-of-n"}
    assert "best-of-n/loss" in done["logged"]


def test_a_kill_costs_one_chunk_and_changes_no_bit(
    folder: Path,
    outcome: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rejection, "CHUNK_PROMPTS", 3)
    choose, chosen = rejection._Chooser.choose, []

    def killed(self: Any, prompts: Any, number: int) -> Any:
        if number == 1 and chosen == [0]:
            raise RuntimeError("killed")
        chosen.append(number)
        return choose(self, prompts, number)

    monkeypatch.setattr(rejection._Chooser, "choose", killed)
    with pytest.raises(RuntimeError, match="killed"):
        run(folder, tmp_path)
    chosen[:] = [9]
    again = run(folder, tmp_path)
    assert chosen == [9, 1, 2]  # the first chunk was read
    whole, done = outcome
    assert again["metrics"] == done["metrics"]
    for path in sorted((whole / "out").rglob("*")):
        if path.is_file():
            other = tmp_path / "out" / path.relative_to(whole / "out")
            assert path.read_bytes() == other.read_bytes()


def test_a_chunk_is_scored_alone_and_none_of_its_rows_stays(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same chunk twice: rows kept of the first would not be scored again."""
    counts: list[int] = []

    def counted(model: Any, sequences: Any, *given: Any) -> torch.Tensor:
        counts.append(len(sequences))
        return score_sequences(model, sequences, *given)

    monkeypatch.setattr(scoring, "score_sequences", counted)
    chooser = rejection._Chooser(
        folder / "sft", folder / "reward", BestOfNConfig(samples_per_prompt=4), SAMPLING,
        TrainingRun(out=tmp_path, checkpoints=tmp_path, seed=3, device="cpu", log=ignore),
        messages=False,
    )  # fmt: skip
    assert chooser.choose(WORDS[:2], 0) == chooser.choose(WORDS[:2], 0)
    assert counts[0] == counts[1] > 0


def test_without_a_whole_completion_there_is_nothing_to_learn(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "none.jsonl", [])
    with pytest.raises(DataError, match=r"none\.jsonl holds no prompts"):
        run(folder, tmp_path, tmp_path / "none.jsonl")
    monkeypatch.setattr(
        rejection, "decode_completions", lambda tokenizer, ids, asked: [""] * len(ids)
    )
    with pytest.raises(DataError, match=r"all 168 completions of 7 prompts were cut"):
        run(folder, tmp_path)


@pytest.mark.slow
def test_two_processes_choose_and_learn_what_one_does(folder: Path, tmp_path: Path) -> None:
    alone = run(folder, tmp_path / "alone")
    first, _ = in_team(2, run, folder, tmp_path / "team", scratch=tmp_path)
    found, wanted = (
        read_rows(tmp_path / name / "out" / "chosen.jsonl") for name in ("team", "alone")
    )
    assert [row["completion"] for row in found] == [row["completion"] for row in wanted]
    for name, value in alone["metrics"].items():
        assert first["metrics"][name] == pytest.approx(value, rel=1e-3)
