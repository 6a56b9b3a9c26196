"""Model folders: complete when written, refused with a remedy when not what is wanted."""

import json
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from models.errors import ModelError
from models.language.folders import (
    load_causal_model,
    load_frozen,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    save_model,
)


@pytest.fixture(scope="module")
def reward_folder(
    base_folder: Path, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("reward")
    save_model(new_reward_model(base_folder, seed=3), tokenizer, out)
    return out


@pytest.fixture
def copy(base_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(base_folder, tmp_path / "copy")


def test_saved_folder_is_complete(base_folder: Path) -> None:
    assert sorted(path.name for path in base_folder.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_model_comes_back_with_equal_weights(base_folder: Path, tmp_path: Path) -> None:
    model = load_causal_model(base_folder)
    model.config.use_cache = False  # as trainers leave it
    save_model(model, load_tokenizer(base_folder), tmp_path)
    again = load_causal_model(tmp_path)
    assert again.config.use_cache
    assert not again.training
    pairs = zip(model.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) and a.dtype == torch.float32 for a, b in pairs)


def test_frozen_models_may_be_bfloat16_but_for_their_score_heads(
    base_folder: Path, reward_folder: Path
) -> None:
    for load, folder in (load_causal_model, base_folder), (load_reward_model, reward_folder):
        exact = dict(load(folder).named_parameters())
        rounded = load_frozen(load, folder, "cpu", "bfloat16")
        for name, weight in rounded.named_parameters():
            kept = name.startswith("score")
            assert weight.dtype == (torch.float32 if kept else torch.bfloat16)
            assert torch.equal(weight, exact[name].bfloat16())
        assert all(p.dtype == torch.float32 for p in load_frozen(load, folder, "cpu").parameters())


def test_models_loaded_in_several_threads_leave_transformers_as_it_was(base_folder: Path) -> None:
    """While it loads, transformers replaces a method of its class, and each load puts one back."""
    before = PreTrainedModel.tie_weights
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(load_causal_model, [base_folder] * 24))
        assert PreTrainedModel.tie_weights is before
    finally:
        PreTrainedModel.tie_weights = before


def test_reward_model_has_the_sft_trunk_and_a_head_of_the_right_scale(
    base_folder: Path, reward_folder: Path
) -> None:
    base, reward = load_causal_model(base_folder), load_reward_model(reward_folder)
    ids = torch.tensor([[5, 6, 7]])
    trunks = [model.base_model(ids).last_hidden_state for model in (base, reward)]
    assert torch.equal(*trunks)
    assert reward.score.weight.shape == (1, 32)
    again = new_reward_model(base_folder, seed=3)
    assert torch.equal(again.score.weight, reward.score.weight)
    assert not torch.equal(new_reward_model(base_folder, seed=4).score.weight, again.score.weight)
    many = torch.cat([new_reward_model(base_folder, seed=s).score.weight for s in range(40)])
    # 1280 draws: the sample deviation is within 3 / sqrt(2 * 1280) = 6% of the true one.
    assert float(many.detach().std()) == pytest.approx(1 / math.sqrt(33), rel=0.06)


def test_dropout_is_off_in_loaded_models(tokenizer: Any, tmp_path: Path) -> None:
    config = GPT2Config(n_layer=1, n_head=2, n_embd=8, n_positions=16, vocab_size=len(tokenizer))
    assert config.resid_pdrop == 0.1
    config.pad_token_id, config.eos_token_id, config.bos_token_id = 0, 1, None
    save_model(GPT2LMHeadModel(config), tokenizer, tmp_path)
    model = load_causal_model(tmp_path).train()
    rates = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    assert rates
    assert set(rates) == {0.0}


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", r"has no \*\.safetensors"),
        ("tokenizer.json", "has no tokenizer.json"),
    ],
)
def test_loading_refuses_an_incomplete_folder(copy: Path, missing: str, named: str) -> None:
    (copy / missing).unlink()
    with pytest.raises(ModelError, match=named):
        load_causal_model(copy)


def test_loading_refuses_a_path_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no folder"):
        load_causal_model(tmp_path / "absent")
    with pytest.raises(ModelError, match="is no folder"):
        load_tokenizer(tmp_path / "absent")


def _cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def _break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize("damage", [_cut_weights, _break_config])
def test_loading_refuses_a_damaged_folder(copy: Path, damage: Callable[[Path], None]) -> None:
    damage(copy)
    with pytest.raises(ModelError, match="cannot be read"):
        load_causal_model(copy)


def test_loading_refuses_weights_that_lack_a_layer(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"lack model\.layers\.2\."):
        load_causal_model(copy)


def test_loading_refuses_the_other_kind_of_model(base_folder: Path, reward_folder: Path) -> None:
    with pytest.raises(
        ModelError, match="holds a LlamaForCausalLM, a reward model with one label was wanted"
    ):
        load_reward_model(base_folder)
    with pytest.raises(
        ModelError, match="holds a LlamaForSequenceClassification, a causal language model"
    ):
        load_causal_model(reward_folder)


def test_loading_refuses_a_classifier_with_two_labels(reward_folder: Path, tmp_path: Path) -> None:
    model = load_reward_model(reward_folder)
    model.config.num_labels = 2
    model.score = torch.nn.Linear(32, 2, bias=False)
    save_model(model, load_tokenizer(reward_folder), tmp_path)
    with pytest.raises(ModelError, match="with 2 labels, a reward model with one label"):
        load_reward_model(tmp_path)


def test_tokenizer_is_refused_when_pad_is_eos(copy: Path) -> None:
    path = copy / "tokenizer_config.json"
    path.write_text(path.read_text().replace("<|pad|>", "<|eos|>"))
    with pytest.raises(ModelError, match="two different tokens"):
        load_tokenizer(copy)


def test_tokenizer_is_refused_without_template_where_one_is_needed(copy: Path) -> None:
    (copy / "chat_template.jinja").unlink()
    assert load_tokenizer(copy).chat_template is None
    with pytest.raises(ModelError, match="no chat template"):
        load_tokenizer(copy, wants_template=True)
