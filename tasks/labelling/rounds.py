"""Rounds of feedback: what the earlier ones gave, and which prompts are asked about next.

Each round goes on with the prompts where the last one ended, so that no prompt is asked about
again before all others were.
"""

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import DataError
from models.randomness import derive_seed
from models.rows import prompt_key, read_json, read_rows, write_rows
from tasks.results.store import StageRef

RIVALS = ("reward_model", "judge")
"""Roles of the two reward models that may choose what is asked about."""
ASKED, FEEDBACK, PREFERENCES = "asked.jsonl", "feedback.json", "preferences_train.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRound:
    """Stages of the round before, as inputs of this one's; the first has none.

    Attributes:
        earlier: The same stage.
        rivals: The reward model and the held-out one, where people or the annotator are to be asked
            about what these disagree about most.
    """

    earlier: StageRef | None = None
    rivals: tuple[StageRef, StageRef] | None = None

    @property
    def inputs(self) -> dict[str, StageRef]:
        """Them by role."""
        earlier = {} if self.earlier is None else {"earlier": self.earlier}
        return earlier | dict(zip(RIVALS, self.rivals or (), strict=False))


NO_ROUND = LastRound()


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What the rounds before this one gave; the first has none before it.

    Attributes:
        asked: Rows with prompts that were asked about and in which round, each as often as it was.
        preferences: Training pairs.
        annotated: How many of them were annotated.
        given: How many were given.
    """

    rounds: int = 0
    asked: Sequence[dict[str, Any]] = ()
    preferences: Sequence[dict[str, Any]] = ()
    annotated: int = 0
    given: int = 0

    @classmethod
    def read(cls, folder: Path | None) -> "Earlier":
        """Read what the last round published: of samples for people only the prompts.

        Args:
            folder: Of its stage; None in the first round.
        """
        if folder is None:
            return cls()
        asked = read_rows(folder / ASKED)
        rounds = max((row["round"] for row in asked), default=1)
        if not (folder / FEEDBACK).is_file():
            return cls(rounds=rounds, asked=asked)
        numbers = read_json(folder / FEEDBACK)
        return cls(
            rounds=rounds,
            asked=asked,
            preferences=read_rows(folder / PREFERENCES),
            annotated=round(numbers["feedback/annotated"]),
            given=round(numbers["feedback/given"]),
        )

    def seed(self, root: int, name: str) -> int:
        """The seed of this round's draws; the first round's is that of a run without rounds."""
        return derive_seed(root, f"{name}/{self.rounds + 1}" if self.rounds else name)

    def write_asked(self, out: Path, prompts: Iterable[Any]) -> None:
        """Write what was asked so far, with the prompts of this round."""
        mine = [{"prompt": prompt, "round": self.rounds + 1} for prompt in prompts]
        write_rows(out / ASKED, [*self.asked, *mine])

    def pick(self, prompts: list[Any], count: int, seed: int) -> list[Any]:
        """Pick prompts at random, those that were asked about least first.

        Some are picked again where there are fewer.

        Raises:
            DataError: There are none.
        """
        if not prompts:
            raise DataError(
                "there are no training prompts to collect feedback on; give prompts, or set "
                "feedback.annotator=none"
            )
        order = list(range(len(prompts)))
        random.Random(derive_seed(seed, "feedback.prompts")).shuffle(order)
        often = Counter(map(prompt_key, self.asked))
        order.sort(key=lambda index: often[prompt_key({"prompt": prompts[index]})])
        return [prompts[index] for index in itertools.islice(itertools.cycle(order), count)]


FIRST = Earlier()
"""Nothing came before it."""
