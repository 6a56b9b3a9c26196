"""What parameters alone can be refused for: known at once, before anything slow is imported.

What depends on files, stages and models is refused by the plan (`flows/planning/plan.py`).
"""

from collections.abc import Collection

from flows.parameters import PipelineParameters
from flows.planning.limits import check_memory, stages_of_pipeline
from tasks.data.sources import check_source
from tasks.judging.possible import refuse_impossible
from tasks.labelling.assignment import want_raters
from tasks.registry.versions import named_version
from tasks.run.rollout_server import want_rollout_server
from tasks.settings import load_settings


def check_parameters(parameters: PipelineParameters) -> None:
    """Refuse a pipeline that cannot fit in memory, or of whose data or servers some are missing.

    Raises:
        ParameterError: See `check_stages`.
        DataError: A folder or a file is missing.
    """
    check_stages(parameters, stages_of_pipeline(parameters))
    check_source(parameters.data, corpus=parameters.needs_corpus)


def check_stages(parameters: PipelineParameters, stages: Collection[str]) -> None:
    """Refuse stages, by their names, that cannot fit in memory, or whose servers are missing.

    Raises:
        ParameterError: They need more memory than there is, or a rollout server or raters that are
            not named.
    """
    settings = load_settings()
    check_memory(parameters, settings, stages)
    if "feedback-samples" in stages:
        want_raters(parameters.feedback, settings)
    if "ppo" in stages and parameters.ppo.rollout_engine == "server":
        want_rollout_server(settings)


def check_decision(parameters: PipelineParameters) -> None:
    """Refuse a pipeline whose policy could never be accepted.

    Raises:
        ParameterError: The judge that is to decide is not there, or a count is too small.
    """
    refuse_impossible(
        parameters.evaluate,
        gold=parameters.data.source == "world",
        held_out=parameters.reward.judge_share > 0,
    )


def check_registered(parameters: PipelineParameters) -> None:
    """Refuse a base model that no registered version is, before Prefect is imported for a plan.

    Raises:
        ModelError: MLflow has none by that name.
    """
    if parameters.base.source.startswith("models:"):
        named_version(parameters.base.name)
