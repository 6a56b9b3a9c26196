"""A LoRA adapter is merged into its base at adoption, or refused in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from models.adoption.adopt import adopt_model
from models.adoption.merging import adapter_files
from models.errors import ModelError
from models.language.folders import load_causal_model
from tests.models.adoption.tiny_models import build, save
from tests.models.language.damaged_folders import edit

IDS = torch.tensor([[9, 40, 7, 300, 8, 12, 31]])


@pytest.fixture(scope="module")
def base(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llama", tokenizer, tmp_path_factory.mktemp("base") / "llama")


@pytest.fixture
def adapter(tokenizer: Any, base: Path, tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """An adapter as peft saves it, with two ranks, and the logits of the model that it makes."""
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "down_proj"],
        rank_pattern={"down_proj": 2},
        modules_to_save=["lm_head"],
        use_rslora=True,
        task_type="CAUSAL_LM",
    )
    network = get_peft_model(build("llama", tokenizer), config)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for weight in network.parameters():
            if weight.requires_grad:
                weight += 0.2 * torch.randn(weight.shape)
        logits = network.eval()(IDS).logits
    network.save_pretrained(tmp_path / "adapter")
    edit(tmp_path / "adapter", "adapter_config.json", base_model_name_or_path=str(base))
    return tmp_path / "adapter", logits


@torch.no_grad()
def test_adoption_merges_an_adapter_into_its_base(
    base: Path, adapter: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    folder, wanted = adapter
    adopt_model(str(base), None, tmp_path / "out", adapter=adapter_files(str(folder)))
    merged = load_causal_model(tmp_path / "out")
    torch.testing.assert_close(merged(IDS).logits, wanted, atol=1e-5, rtol=0)
    assert (load_causal_model(base)(IDS).logits - wanted).abs().max() > 0.5
    assert not list((tmp_path / "out").glob("adapter*"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"peft_type": "IA3"}, "an adapter of kind 'IA3'"),
        ({"r": 10**9}, "has ranks"),
        ({"r": 3}, "cannot be read .*size mismatch"),
        ({"target_modules": "(a+)+b"}, "a list of names of layers"),
        ({"rank_pattern": {"(a+)+b": 1}}, "a list of names of layers"),
        ({"target_modules": ["q_proj"]}, "4 of its 9 weights have no place"),
        ({"target_modules": ["q_proj", "down_proj", "up_proj"]}, "and 4 are missing"),
    ],
)
def test_adoption_refuses_an_adapter_that_does_not_fit(
    base: Path,
    adapter: tuple[Path, torch.Tensor],
    tmp_path: Path,
    changes: dict[str, Any],
    named: str,
) -> None:
    edit(adapter[0], "adapter_config.json", **changes)
    with pytest.raises(ModelError, match=named) as raised:
        adopt_model(str(base), None, tmp_path / "out", adapter=adapter[0])
    assert str(raised.value).isprintable()
    assert "; " in str(raised.value)


def test_adapter_of_another_model_is_refused_with_the_name_of_its_base(
    base: Path, adapter: tuple[Path, torch.Tensor], tokenizer: Any, tmp_path: Path
) -> None:
    other = save("gpt2", tokenizer, tmp_path / "gpt2")
    with pytest.raises(ModelError, match=rf"give the base that it was trained on \({base}\)"):
        adopt_model(str(other), None, tmp_path / "out", adapter=adapter[0])


def test_adapter_in_place_of_a_model_is_told_with_its_base(
    base: Path, adapter: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    message = rf"holds a LoRA adapter of {base} .*give the base as base\.source"
    with pytest.raises(ModelError, match=message):
        adopt_model(str(adapter[0]), None, tmp_path / "out")
    with pytest.raises(ModelError, match=message):
        load_causal_model(adapter[0])


def test_adapter_must_be_safetensors_inside_its_folder(
    adapter: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    weights = adapter[0] / "adapter_model.safetensors"
    weights.rename(tmp_path / "elsewhere.safetensors")
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors of .* cannot be read"):
        adapter_files(str(adapter[0]))
    weights.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(ModelError, match="lies outside the folder"):
        adapter_files(str(adapter[0]))
