"""Disagreement of two reward models: by hand, and of real ones."""

from pathlib import Path

import numpy as np
import pytest

from models.language.folders import load_reward_model, load_tokenizer, new_reward_model, save_model
from models.language.scoring import score_sequences
from models.language.tokenizer import encode_completion, encode_prompt
from models.reward.disagreement import disagreements, measure_disagreement


def test_disagreement_is_that_of_margins_in_each_models_own_unit() -> None:
    first = [np.array([1.0, -1.0]), np.array([1.0, -1.0]), np.array([5.0, 5.0])]
    second = [10 * first[0] + 3, -10 * first[1], np.array([0.0, 0.0])]
    # centred: 1, -1, 1, -1, 0, 0, root mean square sqrt(4/6) of both models
    unit = (4 / 6) ** 0.5
    assert disagreements(first, second) == pytest.approx([0.0, 4 / unit, 0.0])


def test_disagreement_of_several_completions_is_the_mean_over_their_pairs() -> None:
    first, second = [np.array([2.0, 0.0, -2.0])], [np.array([2.0, -2.0, 0.0])]
    unit = (8 / 3) ** 0.5
    # they differ by 0, 2 and -2: pairs by 2, 2 and 4
    assert disagreements(first, second) == pytest.approx([(2 + 2 + 4) / 3 / unit])


def test_model_that_scores_all_alike_has_no_opinion() -> None:
    assert disagreements([np.zeros(2)], [np.zeros(2)]) == [0.0]


@pytest.fixture(scope="module")
def rewards(
    tmp_path_factory: pytest.TempPathFactory,
    base_folder: Path,
) -> list[Path]:
    made = []
    for seed in (0, 1):
        model = new_reward_model(base_folder, seed=seed)
        made.append(tmp_path_factory.mktemp(f"reward{seed}"))
        save_model(model, load_tokenizer(base_folder), made[-1])
    return made


def test_real_models_read_prompt_and_whole_completion(rewards: list[Path]) -> None:
    prompts = ["the cat sat", "a dog"]
    completions = [("on the mat", "all day", "home"), ("ran home", "slept")]
    found = measure_disagreement(
        rewards=rewards, prompts=prompts, completions=completions, device="cpu"
    )
    scores = []
    for folder in rewards:  # one sequence after the other
        model, tokenizer = load_reward_model(folder), load_tokenizer(folder)
        rows = [
            [
                [*encode_prompt(tokenizer, prompt, 64), *encode_completion(tokenizer, text)]
                for text in texts
            ]
            for prompt, texts in zip(prompts, completions, strict=True)
        ]
        assert all(ids[-1] == tokenizer.eos_token_id for each in rows for ids in each)
        scores.append(
            [np.array([float(score_sequences(model, [ids])) for ids in each]) for each in rows]
        )
    assert found == pytest.approx(disagreements(*scores), rel=1e-4)  # float32, other batches
    assert min(found) > 0
