"""MLflow's package, imported at its first use: that takes a second, which a refusal need not."""

import importlib
from typing import Any


class _Lazy:
    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._module), name)


mlflow: Any = _Lazy("mlflow")
entities: Any = _Lazy("mlflow.entities")
label_schemas: Any = _Lazy("mlflow.genai.label_schemas")
review_queues: Any = _Lazy("mlflow.genai.review_queues")
repositories: Any = _Lazy("mlflow.store.artifact.artifact_repository_registry")
