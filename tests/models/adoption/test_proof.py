"""Adoption proves that logprobs, samples and scores are the model's own, or says why not."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GraniteForCausalLM

from models.adoption.adopt import adopt_model, adopt_reward_model
from models.adoption.proof import check_language_model, prove_language_model
from models.errors import ModelError
from models.language.config import SamplingConfig
from models.language.folders import (
    load_causal_model,
    load_reward_model,
    new_reward_model,
    save_model,
)
from models.language.generation import sample_completions
from models.language.packing import row_layout
from models.language.scoring import score_sequences
from models.language.sequences import Sequences, token_logprobs
from models.rows import write_rows
from models.runtime import TrainingRun
from models.training.config import SFTStageConfig
from models.training.sft import finetune
from tests.models.adoption.tiny_models import KINDS, build, save

# Of architectures that are not packed: Nemotron's and Bloom's attention lets packed rows see each
# other, Mamba has no attention and no cache of keys and values.
LAYOUTS = {"nemotron": "padded", "bloom": "padded", "mamba": "repeated"}

PROMPTS = [[9, 40, 7, 300, 8, 12, 31], [5, 6, 7], [200, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]]


@torch.no_grad()
def _own_logprobs(folder: Path, rows: list[list[int]]) -> list[torch.Tensor]:
    """transformers' own forward of each row alone, as anybody would load the folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for row in rows:
        ids = torch.tensor([row])
        log_softmax = model(ids, use_cache=False).logits[0, :-1].double().log_softmax(-1)
        found.append(log_softmax.gather(1, ids[0, 1:, None]).squeeze(1))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_adopted_model_computes_and_samples_what_its_own_forward_does(
    kind: str, tokenizer: Any, tmp_path: Path
) -> None:
    """Logprobs, samples, and scores of a reward model on it that was saved and loaded."""
    adopt_model(str(save(kind, tokenizer, tmp_path / "in")), None, tmp_path / "out")
    model = load_causal_model(tmp_path / "out")
    assert row_layout(model) == LAYOUTS.get(kind, "packed")

    def sample(eos: int) -> list[Any]:
        return sample_completions(
            model,
            PROMPTS,
            sampling=SamplingConfig(max_completion_tokens=8),
            eos_token_id=eos,
            generator=torch.Generator().manual_seed(0),
        )

    sampled = sample(sample(-1)[1].token_ids[2])  # so that the second row leaves first
    assert len(sampled[1].token_ids) < len(sampled[2].token_ids) == 8
    rows = [prompt + one.token_ids for prompt, one in zip(PROMPTS, sampled, strict=True)]
    sequences = Sequences.from_lists([row[:1] for row in rows], [row[1:] for row in rows])
    with torch.no_grad():
        packed = token_logprobs(model, sequences).logprobs
    for own, row, one in zip(_own_logprobs(tmp_path / "out", rows), packed, sampled, strict=True):
        assert own.std() > 0.5
        torch.testing.assert_close(row[: len(own)].double(), own, atol=1e-4, rtol=0)
        drawn = torch.tensor(one.logprobs, dtype=torch.float64)
        torch.testing.assert_close(drawn, own[-len(drawn) :], atol=1e-4, rtol=0)

    reward = new_reward_model(tmp_path / "out", seed=1)
    save_model(reward, tokenizer, tmp_path / "reward")
    loaded = load_reward_model(tmp_path / "reward")
    assert row_layout(loaded) == row_layout(model)
    with torch.no_grad():
        alone = [
            float(loaded.score(loaded.base_model(torch.tensor([row])).last_hidden_state[0, -1]))
            for row in rows
        ]
    torch.testing.assert_close(
        score_sequences(loaded, rows), torch.tensor(alone), atol=1e-4, rtol=0
    )


def test_adoption_says_why_rows_are_padded(
    tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    adopt_model(str(save("nemotron", tokenizer, tmp_path / "in")), None, tmp_path / "out")
    assert "NemotronForCausalLM" in caplog.text
    assert "packed rows: logprobs differ by up to" in caplog.text
    assert "so it gets padded rows and transformers' own cache; exact, but slower" in caplog.text


def test_adoption_finds_the_row_layout_itself_whatever_the_config_says(
    tokenizer: Any, tmp_path: Path
) -> None:
    folder = save("llama", tokenizer, tmp_path / "in", quartet_row_layout="repeated")
    adopt_model(str(folder), None, tmp_path / "out")
    assert "quartet_row_layout" not in (tmp_path / "out" / "config.json").read_text()


def test_model_that_computes_its_logits_otherwise_is_refused(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build("granite", tokenizer)
    forward = GraniteForCausalLM.forward

    def squared(self: Any, *args: Any, **given: Any) -> Any:
        outputs = forward(self, *args, **given)
        outputs.logits = outputs.logits**2
        return outputs

    monkeypatch.setattr(GraniteForCausalLM, "forward", squared)
    with pytest.raises(
        ModelError, match=r"packed rows: logprobs differ by up to .*; choose a model"
    ):
        prove_language_model(model, "mine")
    with pytest.raises(ModelError, match="packed rows are not what the model itself computes"):
        check_language_model(build("granite", tokenizer), "mine")


@pytest.fixture(scope="module")
def nemotron(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adopted model whose rows are padded, and a reward model on it."""
    folder = tmp_path_factory.mktemp("nemotron")
    adopt_model(str(save("nemotron", tokenizer, folder / "in")), None, folder / "sft")
    return folder


def test_adopted_reward_model_of_a_padded_kind_scores_as_it_does_itself(
    nemotron: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """A reward model from elsewhere: nothing in its config says how its rows are computed."""
    reward = new_reward_model(nemotron / "sft", seed=1)
    del reward.config.quartet_row_layout
    save_model(reward, tokenizer, tmp_path / "in")
    adopt_reward_model(str(tmp_path / "in"), None, tmp_path / "out")
    adopted = load_reward_model(tmp_path / "out")
    assert row_layout(adopted) == "padded"
    with torch.no_grad():
        alone = [adopted(torch.tensor([row])).logits[0] for row in PROMPTS]
    torch.testing.assert_close(
        score_sequences(adopted, PROMPTS), torch.cat(alone), atol=1e-5, rtol=0
    )


def test_sft_of_a_padded_model_learns_from_its_own_loss(
    nemotron: Path, tmp_path: Path, make_run: Callable[..., TrainingRun]
) -> None:
    rows = [{"prompt": f"the cat {n}", "completion": " on the mat" * n} for n in (1, 2, 3, 4)]
    write_rows(tmp_path / "rows.jsonl", rows)
    logged: dict[int, dict[str, float]] = {}
    finetune(
        base=nemotron / "sft",
        demonstrations=tmp_path / "rows.jsonl",
        heldout=tmp_path / "rows.jsonl",
        config=SFTStageConfig(batch_size=4, epochs=1.0, learning_rate=1e-9),
        run=make_run(
            tmp_path / "sft", log=lambda metrics, step: logged.setdefault(step, {}).update(metrics)
        ),
    )
    # The one batch holds all rows, and so does the held-out measurement: the same mean loss.
    assert logged[1]["sft/loss"] == pytest.approx(logged[1]["sft/heldout_loss"], abs=1e-4)
    assert row_layout(load_causal_model(tmp_path / "sft")) == "padded"
