"""Reward models on BERT and BART: scores as transformers' own, learned and resumed like others."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from models.errors import ModelError, ParameterError
from models.families.config import ArchitectureConfig
from models.families.networks import build_model
from models.language.config import LoRAConfig, SamplingConfig, TokenizerConfig
from models.language.folders import (
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    save_model,
)
from models.language.scoring import read_score_moments, score_sequences
from models.language.tokenizer import train_tokenizer
from models.ppo.config import PPOConfig
from models.ppo.networks import load_networks
from models.ppo.run import train_ppo
from models.reward.config import RewardStageConfig
from models.reward.training import train_reward_model
from models.rows import write_rows
from models.runtime import TrainingRun

WORDS = ["cat", "dog", "mat", "hill", "day", "sum", "home", "it"]
PAIRS = [
    {"prompt": f"{first} {second}", "chosen": f" the {first}", "rejected": f" a {second}"}
    for first in WORDS
    for second in WORDS[:3]
]
CONFIG = RewardStageConfig(batch_size=8, epochs=4.0, learning_rate=1e-2, checkpoint_steps=5)
SAMPLING = SamplingConfig(max_completion_tokens=8)
FAMILIES = ("bert", "bart")


@pytest.fixture(scope="module")
def folders(corpus_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of an untrained network of each family, all with one tokenizer."""
    root = tmp_path_factory.mktemp("families")
    config = TokenizerConfig(vocab_size=330, mask=True)
    train_tokenizer(corpus=corpus_file, config=config, context=64, out=root / "tokenizer")
    tokenizer = load_tokenizer(root / "tokenizer")
    for family in ("llama", *FAMILIES):
        sizes = {"family": family, "layers": 1, "width": 32, "heads": 2, "context": 64}
        model = build_model(ArchitectureConfig.model_validate(sizes), tokenizer, seed=0)
        save_model(model, tokenizer, root / family)
    return {family: root / family for family in ("llama", *FAMILIES)}


@pytest.fixture(scope="module")
def run(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, make_run: Any) -> Any:
    root = tmp_path_factory.mktemp("reward")
    write_rows(root / "pairs.jsonl", PAIRS)

    def start(family: str, name: str, log: Any = lambda found, step: None, **changes: Any) -> Any:
        metrics = train_reward_model(
            sft=folders[family],
            preferences=root / "pairs.jsonl",
            heldout=root / "pairs.jsonl",
            prompts=root / "nothing",
            contrasts=None,
            config=CONFIG.model_copy(update=changes),
            sampling=SAMPLING,
            run=make_run(root / name, log=log),
        )
        return metrics, root / name

    return start


@pytest.fixture(scope="module")
def trained(run: Any) -> Callable[[str], Any]:
    """Metrics and folder of a reward model that was trained once for all tests."""
    known: dict[str, Any] = {}

    def get(family: str) -> Any:
        if family not in known:
            known[family] = run(family, family)
        return known[family]

    return get


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_transformers_own_classifier(
    folders: dict[str, Path], family: str
) -> None:
    model = new_reward_model(folders[family], seed=3)
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 5 if weight.dim() > 1 else 1  # so that a mistake moves the numbers
    tokenizer = load_tokenizer(folders[family])
    rows = [[9, 12, 30, 7, 1], [40, 41, 1], [8, 9, 10, 11, 12, 13, 14, 1], [55, 1]]
    found = score_sequences(model, rows)
    for row, score in zip(rows, found.tolist(), strict=True):
        whole = [tokenizer.cls_token_id, *row] if family == "bert" else row
        alone = model(input_ids=torch.tensor([whole])).logits
        assert alone.shape == (1, 1)
        # Neighbours and padding are unseen; float32, with weights five times as large.
        assert score == pytest.approx(alone.item(), abs=1e-4)
    assert len(set(found.tolist())) == 4
    later = score_sequences(model, [[9, 12, 31, 7, 1]])  # a token in the middle is read
    assert abs(float(later[0] - found[0])) > 1e-3


def test_bert_makes_room_for_cls_in_a_row_that_fills_the_context(folders: dict[str, Path]) -> None:
    model = new_reward_model(folders["bert"], seed=3)
    row = [9 + at % 50 for at in range(64)]
    cls = load_tokenizer(folders["bert"]).cls_token_id
    alone = model(input_ids=torch.tensor([[cls, *row[1:]]])).logits.item()
    assert score_sequences(model, [row]).item() == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_reward_model_on_bert_and_bart_learns_an_order(trained: Any, family: str) -> None:
    metrics, folder = trained(family)
    assert metrics["reward/accuracy"] > 0.9
    moments = read_score_moments(folder)
    model = load_reward_model(folder)
    tokenizer = load_tokenizer(folder)
    sides = [row["prompt"] + row[side] for side in ("chosen", "rejected") for row in PAIRS]
    rows = [[*ids, 1] for ids in (tokenizer.encode(text) for text in sides)]
    # Prompts and completions are encoded apart; these meet at a space, as words do.
    scores = score_sequences(model, rows).double()
    assert moments.samples == 48
    assert moments.mean == pytest.approx(float(scores.mean()), abs=0.05)
    assert metrics["reward/score_raw_std"] == moments.raw_std
    plain = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False)
    assert type(plain) is type(model)
    assert plain.config.num_labels == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_killed_training_on_bert_and_bart_resumes_to_equal_bits(
    run: Any, trained: Any, family: str
) -> None:
    class Killed(BaseException):
        pass

    def dies(metrics: Mapping[str, float], step: int) -> None:
        if step == 7:
            raise Killed

    with pytest.raises(Killed):
        run(family, f"{family}-broken", dies)
    metrics, folder = run(family, f"{family}-broken")
    whole = trained(family)
    assert metrics == whole[0]
    one, two = (path / "model.safetensors" for path in (folder, whole[1]))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_memory_is_saved_on_bert_and_bart_too(run: Any, trained: Any, family: str) -> None:
    metrics, folder = run(family, f"{family}-recomputed", gradient_checkpointing=True)
    assert metrics == trained(family)[0]  # to the bit
    metrics, folder = run(family, f"{family}-halved", precision="bfloat16", epochs=1.0)
    assert metrics["reward/accuracy"] >= 0
    heads = {"bert": "classifier", "bart": "classification_head"}
    head = getattr(load_reward_model(folder, torch.bfloat16), heads[family])
    assert {weight.dtype for weight in head.parameters()} == {torch.float32}


def test_adapters_on_bert_and_a_bert_without_cls_are_refused(
    run: Any, folders: dict[str, Path], tokenizer: Any, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=r"reward\.lora is set for a bert"):
        run("bert", "adapter", lora=LoRAConfig(rank=2))
    sizes = ArchitectureConfig(family="bert", layers=1, width=16, heads=2, context=32)
    save_model(build_model(sizes, tokenizer, seed=0), tokenizer, tmp_path / "bert")
    with pytest.raises(ModelError, match=r"has no CLS token.*tokenizer\.mask=true"):
        new_reward_model(tmp_path / "bert", seed=0)


def test_ppo_refuses_a_critic_that_would_see_the_tokens_to_come(
    trained: Any, folders: dict[str, Path]
) -> None:
    _, reward = trained("bert")
    with pytest.raises(ModelError, match=r"is a bert, which sees the tokens to come.*rloo"):
        load_networks(folders["llama"], reward, config=PPOConfig(), seed=0, device="cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_ppo_without_a_critic_takes_a_reward_model_on_bert_and_bart(
    trained: Any,
    folders: dict[str, Path],
    make_run: Callable[..., TrainingRun],
    tmp_path: Path,
    family: str,
) -> None:
    _, reward = trained(family)
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": row["prompt"]} for row in PAIRS[:6]])
    metrics = train_ppo(
        sft=folders["llama"],
        reward=reward,
        prompts=tmp_path / "prompts.jsonl",
        heldout_prompts=tmp_path / "prompts.jsonl",
        corpus=None,
        config=PPOConfig(
            advantages="rloo", group_size=4, iterations=2, rollouts_per_iteration=8,
            rollouts_per_minibatch=8, actor_learning_rate=1e-3,
        ),
        sampling=SAMPLING,
        run=make_run(tmp_path / "ppo"),
    )  # fmt: skip
    assert metrics["ppo/iterations"] == 2
    assert metrics["ppo/objective/score_std"] > 0
