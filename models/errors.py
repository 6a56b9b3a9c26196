"""Every error that Quartet raises on purpose.

    QuartetError
    ├── ParameterError   a parameter is wrong, alone or against another
    ├── DataError        a file, a row or a dataset is not what a stage can learn from
    ├── ModelError       a model folder lacks files, its tokenizer or a head
    ├── StoreError       a published stage is damaged, missing or cannot be written
    ├── TeamError        a process of those that train together was killed, or did not answer
    ├── WeakRewardError  a reward model is no better than length or noise; PPO was not started
    ├── RolloutError     a rollout server does not answer, or not as training needs it
    ├── DivergedError    the loss is no longer finite; a checkpoint was left behind
    └── WaitingError     a stage needs answers of people that are not there yet

A message says what is wrong, what was got, what was wanted, and what to do about it.
"""

LONGEST_LINE = 300
"""Characters of a foreign error's line that are passed on."""


class QuartetError(Exception):
    """Base of all errors raised on purpose."""


class ParameterError(QuartetError):
    """A parameter is wrong, alone or against another."""


class DataError(QuartetError):
    """A file, a row or a dataset is not what a stage can learn from."""


class ModelError(QuartetError):
    """A model folder lacks files, its tokenizer or a head."""


class StoreError(QuartetError):
    """A published stage is damaged, missing or cannot be written."""


class TeamError(QuartetError):
    """A process of those that train together was killed, or did not answer the others."""


class WeakRewardError(QuartetError):
    """A reward model is no better than length or noise, so PPO was not started."""


class RolloutError(QuartetError):
    """A rollout server does not answer, or not as training needs it."""


class DivergedError(QuartetError):
    """The loss is no longer finite."""


class WaitingError(QuartetError):
    """A stage needs answers of people that are not there yet: no failure."""


def first_line(error: BaseException) -> str:
    """What an error says in one line of a reasonable length, or its kind where it says nothing."""
    text = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
    return text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} ..."
