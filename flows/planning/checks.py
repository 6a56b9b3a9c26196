"""What parameters alone can be refused for: known at once, before anything slow is imported.

What depends on files, stages and models is refused by the plan (`flows/planning/plan.py`).
"""

from flows.parameters import PipelineParameters
from flows.planning.limits import check_memory
from tasks.data.sources import check_source
from tasks.judging.possible import refuse_impossible
from tasks.labelling.assignment import want_raters
from tasks.registry.versions import named_version
from tasks.run.rollout_server import want_rollout_server
from tasks.settings import load_settings


def check_parameters(parameters: PipelineParameters) -> None:
    """Refuse what cannot fit in memory, and what of data or servers is missing.

    Raises:
        ParameterError: It needs more memory than there is, or a rollout server or raters that are
            not named.
        DataError: A folder or a file is missing.
    """
    check_memory(parameters, load_settings())
    want_raters(parameters.feedback, load_settings())
    check_source(parameters.data, corpus=parameters.needs_corpus)
    if parameters.ppo.rollout_engine == "server":
        want_rollout_server(load_settings())


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
