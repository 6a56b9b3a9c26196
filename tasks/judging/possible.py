"""Whether a decision can pass at all: judges, counts and the endpoint, looked at before a run.

Without this, hours of training would end in a rejection that its numbers never could avoid.
"""

from models.errors import DataError, ParameterError, first_line
from models.evaluation.checks import MIN_PROMPTS
from models.evaluation.config import EndpointConfig
from tasks.judging.config import EvaluationConfig, judge_names
from tasks.judging.judges import VaderJudge, deciding_judge

PROBE_SECONDS = 2.0


def refuse_impossible(
    config: EvaluationConfig, *, gold: bool, held_out: bool, group: str = "evaluate"
) -> None:
    """Refuse a decision whose judges are missing or whose counts no model can pass.

    Args:
        config: The decision's.
        gold: Whether the gold judge is asked: the prompts are of the embedded world.
        held_out: Whether there is a held-out reward model.
        group: What its parameters are called: "evaluate" or "promotion".

    Raises:
        ParameterError: A judge is not there, or a count is too small.
    """
    judges = judge_names(config, gold=gold, held_out=held_out)
    judge = deciding_judge(config.judge, judges)
    if "vader" in judges:
        VaderJudge()
    asked = min(config.prompts, config.endpoint.prompts) if judge == "endpoint" else config.prompts
    if asked < MIN_PROMPTS:
        name = "prompts" if asked == config.prompts else "endpoint.prompts"
        raise ParameterError(
            f"{group}.{name} is {asked}, but below {MIN_PROMPTS} prompts no policy can be "
            f"accepted; choose at least {MIN_PROMPTS}"
        )
    if not gold:
        return
    if config.samples_per_prompt < 2:
        raise ParameterError(
            f"{group}.samples_per_prompt is 1, but with a gold judge the samples of a prompt are "
            "compared with each other, so no policy could be accepted; choose at least 2"
        )
    most = config.prompts * config.samples_per_prompt
    if config.min_matched_completions > most:
        raise ParameterError(
            f"{group}.min_matched_completions is {config.min_matched_completions:,}, but "
            f"{config.prompts:,} prompts with {config.samples_per_prompt:,} samples give {most:,} "
            f"completions, so no policy could be accepted; lower it, or raise {group}.prompts or "
            f"{group}.samples_per_prompt"
        )


def refuse_few_prompts(heldout: int) -> None:
    """Refuse data with too few held-out prompts to decide anything.

    Raises:
        DataError: There are fewer than `MIN_PROMPTS`.
    """
    if heldout < MIN_PROMPTS:
        raise DataError(
            f"the data leave {heldout} held-out prompt{'s' if heldout != 1 else ''}, but below "
            f"{MIN_PROMPTS} no policy can be accepted; give a file prompts_test, more "
            "demonstrations, or raise data.heldout_fraction"
        )


def refuse_silent_endpoint(endpoint: EndpointConfig, group: str) -> None:
    """Refuse an endpoint that does not answer, or not to this account.

    Args:
        group: The parameters that name it.

    Raises:
        ParameterError: With what it said and the remedy; or the key is none.
    """
    import httpx

    from tasks.judging.endpoint import api_key  # as slow to import

    key = api_key(endpoint.api_key_env)
    state = f"{endpoint.api_key_env} is {'set' if key else 'not set'} here"
    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        status = httpx.get(
            f"{endpoint.url}/models", headers=headers, timeout=PROBE_SECONDS
        ).status_code
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ParameterError(
            f"the language model at {group}.url {endpoint.url} does not answer "
            f"({first_line(error)}); start it, or correct the address up to /v1"
        ) from error
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise ParameterError(
            f"the language model at {group}.url {endpoint.url} refuses this account ({status}); "
            f"{state}: set it to the endpoint's key where the flow runs"
        )
