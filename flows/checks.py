"""What parameters alone can be refused for: known at once, before anything is imported or started.

What depends on files, stages and models is refused by the plan (`flows/plan.py`).
"""

from flows.memory import check_memory
from flows.parameters import PipelineParameters
from tasks.data.files import user_path
from tasks.data.sources import folder_files
from tasks.settings import load_settings


def check_parameters(parameters: PipelineParameters) -> None:
    """Refuse what cannot fit in memory, and a folder without the needed files.

    Raises:
        ParameterError: It needs more memory than there is.
        DataError: The folder or a file in it is missing.
    """
    check_memory(parameters, load_settings())
    if parameters.data.source == "folder":
        folder_files(user_path(parameters.data.folder), corpus=parameters.needs_corpus)
