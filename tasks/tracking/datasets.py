"""Which datasets a stage learns from and is measured on, as records for MLflow's inputs.

A dataset is one canonical file of a published stage. Its columns are read from its first row and
its digest is the file's sha256 from the manifest, so equal data has one identity in every run.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.catalogue import DATASETS, entry
from tasks.results.store import MANIFEST, Manifest, StageRef, Store

PLAIN_TYPES = {bool: "boolean", int: "long", float: "double", str: "string"}
"""MLflow's names of types."""

SHOWN_DIGEST = 12
"""Characters of a dataset's digest, as many as of all digests that people see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecord:
    """One dataset of a run.

    Attributes:
        name: Of the canonical file without its ending.
        context: train or heldout.
        stage: That published it.
        digest: Of that stage.
        size: Bytes.
        columns: MLflow's column specifications: name, type, required.
    """

    name: str
    context: str
    sha256: str
    stage: str
    digest: str
    rows: int
    size: int
    columns: list[dict[str, Any]]

    def fields(self) -> dict[str, str]:
        """The record in MLflow's words, whose digest has 36 characters at most."""
        file = f"{self.name}.jsonl"
        source = {
            "uri": f"{self.stage}/{self.digest}/{file}",
            "stage": self.stage,
            "digest": self.digest,
            "sha256": self.sha256,
        }
        return {
            "name": self.name,
            "digest": self.sha256[:SHOWN_DIGEST],
            "source_type": "local",
            "source": json.dumps(source),
            "schema": json.dumps({"mlflow_colspec": self.columns}),
            "profile": json.dumps({"num_rows": self.rows, "bytes": self.size}),
        }


def stage_datasets(
    stage: str, inputs: Mapping[str, StageRef], store: Store
) -> list[DatasetRecord] | None:
    """Describe the datasets that a stage reads; None while an input is not in the store."""
    records = []
    for role, ref in inputs.items():
        files = (DATASETS | entry(stage).datasets).get(role, {})
        if files:
            folder = store.folder(ref.stage, ref.digest)
            if not (folder / MANIFEST).is_file():
                return None
            records += list(_describe(folder, files))
    return records


def _describe(folder: Path, files: Mapping[str, str]) -> Iterator[DatasetRecord]:
    manifest = Manifest.read(folder)
    for name, context in files.items():
        entry = manifest.files.get(f"{name}.jsonl")
        if entry is None or not entry.size:
            continue
        path = folder / f"{name}.jsonl"
        with path.open("rb") as lines:
            first = json.loads(lines.readline())
            rows = 1 + sum(1 for _ in lines)
        yield DatasetRecord(
            name=name,
            context=context,
            sha256=entry.sha256,
            stage=manifest.stage,
            digest=manifest.digest,
            rows=rows,
            size=entry.size,
            columns=describe_columns(first),
        )


def describe_columns(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Name the columns of a canonical row with MLflow's types, messages as arrays of objects."""
    return [{**_type(value), "name": name, "required": True} for name, value in row.items()]


def _type(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"type": "array", "items": _type(value[0]) if value else {"type": "string"}}
    if isinstance(value, dict):
        properties = {key: {**_type(item), "required": True} for key, item in value.items()}
        return {"type": "object", "properties": properties}
    return {"type": PLAIN_TYPES.get(type(value), "string")}
