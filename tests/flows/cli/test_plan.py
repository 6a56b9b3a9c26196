"""`quartet plan`: also without data, with sizes of a folder's headers, and for another device."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app


@pytest.fixture
def model(tmp_path: Path) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=4000, hidden_size=512, intermediate_size=1024, num_hidden_layers=4,
        num_attention_heads=8, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_in_a_folder_is_planned_without_data(home: Path, model: Path) -> None:
    words = ["plan", "reviews", "--set", f"base.source={model}", "--set", "data.folder=nowhere"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "its stages are left out: data folder nowhere" in done.output
    assert "Prompts are taken to have 64 tokens, as the data are not known yet" in done.output
    # 4000 * 512 + 4 * (2 * 512^2 + 2 * 512 * 128 + 3 * 512 * 1024 + 2 * 512) + 512 weights:
    # 10,965,504, in float32 41.8 MiB
    (actor,) = (line for line in done.output.splitlines() if "actor" in line)
    assert actor.split("│")[2:6] == [" actor     ", "    41.8 ", "      41.8 ", "      83.7 "]
    assert "All stages fit" in done.output

    done = CliRunner().invoke(app, [*words, "--memory", "1.5GB"])
    assert done.exit_code == 0
    assert "ppo does not fit" in done.output
    assert "set ppo.gradient_checkpointing=true" in done.output


def test_a_preset_is_planned_with_its_stages(home: Path) -> None:
    done = CliRunner().invoke(app, ["plan", "quickstart", "--set", "model.width=64"])
    assert done.exit_code == 0, done.output
    assert "0 stages reused, 9 new" in done.output
    assert not (home / "store").exists()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["quickstart", "--memory", "80"], "--memory: got '80', wanted a size"),
        (["foundations", "--memory", "80GB"], "leave --memory out"),
        (["quickstrat"], "did you mean 'quickstart'"),
        (["reviews", "--set", "base.source=/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_what_cannot_be_planned_is_one_line(home: Path, words: list[str], wanted: str) -> None:
    done = CliRunner().invoke(app, ["plan", *words])
    assert done.exit_code in (1, 2)
    (line,) = done.output.strip().splitlines()
    assert line.startswith("quartet: ")
    assert wanted in line
