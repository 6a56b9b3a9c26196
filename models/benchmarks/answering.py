"""Multiple choice from folders to answers: any number of models, the same questions."""

from collections.abc import Mapping
from pathlib import Path

from models.benchmarks.config import MultipleChoiceConfig
from models.benchmarks.multiple_choice import Answers, answer_questions
from models.benchmarks.questions import Questions
from models.language.folders import load_causal_model, load_frozen, load_tokenizer


def answer_each(
    *,
    models: Mapping[str, Path],
    questions: Questions,
    config: MultipleChoiceConfig,
    seed: int,
    device: str,
    shown: Questions | None = None,
) -> dict[str, Answers]:
    """Have models answer, one after the other; see `answer_questions`.

    Args:
        models: Folders by name.
    """
    wants_template = config.prompt == "chat"
    return {
        name: answer_questions(
            load_frozen(load_causal_model, folder, device),
            load_tokenizer(folder, wants_template=wants_template),
            questions,
            config,
            seed=seed,
            shown=shown,
        )
        for name, folder in models.items()
    }
