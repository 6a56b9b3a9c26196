"""Base: an existing model from a folder or the hub, made complete, in place of pretraining."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import HfApi
from prefect import task
from prefect.cache_policies import NO_CACHE

from models.configs.base_model import BaseModelConfig
from models.errors import ModelError
from tasks.digests import file_digest
from tasks.lineage import StageSpec
from tasks.pipeline_run import PipelineRun
from tasks.stage import Workspace, run_stage
from tasks.store import StageRef

__all__ = ["adopt_base"]


@task(name="base", task_run_name="base", cache_policy=NO_CACHE)
def adopt_base(config: BaseModelConfig, *, pipeline: PipelineRun) -> StageRef:
    """Publish an existing base model with a pad token, role tokens and a chat template.

    Raises:
        ModelError: The model cannot be found or is not complete.
    """
    folder = _local_folder(config)
    revision = _revision(config)

    def learn(work: Workspace) -> Mapping[str, float]:
        from models.adoption import adopt_model  # imports torch: only where there is work to do

        source, commit = (str(folder), None) if folder else (config.source, revision)
        return adopt_model(source, commit, work.out / "model")

    spec = StageSpec(
        name="base",
        module=__name__,
        parameters={"base": {}},
        external={"model": revision if folder else f"{config.source}@{revision}"},
    )
    return run_stage(spec, pipeline, learn)


def _local_folder(config: BaseModelConfig) -> Path | None:
    folder = Path(config.source).expanduser()
    return folder if folder.is_dir() else None


def _revision(config: BaseModelConfig) -> str:
    """Name the model's content: a digest of a folder's files, or the commit of a hub id."""
    folder = _local_folder(config)
    if folder is not None:
        digest = hashlib.sha256()
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            digest.update(f"{path.name}\n{file_digest(path)}\n".encode())
        return digest.hexdigest()
    try:
        info = HfApi().model_info(config.source, revision=config.revision or None)
    except Exception as error:  # the client raises errors of several libraries
        raise ModelError(
            f"base.source {config.source!r} is neither a folder here nor a model that the hub "
            f"gives ({error}); give an existing folder, a hub id such as "
            "HuggingFaceTB/SmolLM2-135M, or nothing to pretrain from scratch"
        ) from error
    return str(info.sha)
