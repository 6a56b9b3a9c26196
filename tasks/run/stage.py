"""What every stage does around its training: identity, lock, reuse, tracking, publishing.

A stage module says what it is (`StageSpec`) and how it trains (a function on a `Workspace`);
`run_stage` finds the result in the store or fetches it from MLflow, else computes, records and
publishes it. Whatever goes wrong, what was finished stays finished, and what was begun resumes
from its last checkpoint. So Prefect retries a stage (`stage_task`) at little cost.
"""

import functools
import math
import shutil
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from models.runtime import use_device
from tasks.machine.memory import forget_peak, peak_memory
from tasks.results.code import code_digest
from tasks.results.curves import HISTORY, append_history, repair_history
from tasks.results.digests import library_versions, stage_digest
from tasks.results.store import Manifest, StageRef, Store, list_files, write_manifest
from tasks.run.device_slot import training_slot
from tasks.run.exchange import fetch_published, published_metrics
from tasks.run.faults import by_full_disk, faults_explained, free_bytes, full_disk
from tasks.run.learning import Learner
from tasks.run.overview import overview
from tasks.run.pipeline import PipelineRun
from tasks.run.planning import NotYetKnown, PlannedStage, planning
from tasks.run.record import StageRecord
from tasks.run.reporting import Progress, announce_stage, run_logger
from tasks.run.scale import chosen_scale
from tasks.run.spec import StageSpec, live_page, show_page
from tasks.run.spent import Spent
from tasks.run.workspace import Learn, Workspace
from tasks.settings import Settings, load_settings
from tasks.tracking.metrics import MetricBuffer


def run_stage(spec: StageSpec, pipeline: PipelineRun, learn: Learn) -> StageRef:
    """Return a stage's published result, computing it only if it does not exist yet.

    Raises:
        StoreError: A published stage is damaged, or the disk is full.
        QuartetError: Whatever else the training raises on purpose.
    """
    stages = planning()
    if stages is not None:
        return _foretell(spec, pipeline, stages)
    return _StageRun(spec, pipeline).result(learn)


def _foretell(spec: StageSpec, pipeline: PipelineRun, stages: list[PlannedStage]) -> StageRef:
    """Note what `run_stage` would do, and refer to its result, which may not exist yet."""
    run = _StageRun(spec, pipeline)
    metrics = published_metrics(run.store, run.settings, spec.name, run.digest)
    reused = metrics is not None
    stages.append(
        PlannedStage(spec=spec, digest=run.digest, reused=reused, metrics=dict(metrics or {}))
    )
    return StageRef.model_construct(
        stage=spec.name, digest=run.digest, reused=reused, metrics=metrics or NotYetKnown()
    )


class _StageRun:
    def __init__(self, spec: StageSpec, pipeline: PipelineRun) -> None:
        self.spec = spec
        self.pipeline = pipeline
        self.settings: Settings = load_settings()
        self.store = Store(self.settings.store)
        self.logger = run_logger()
        self.started = time.monotonic()
        self.input_digests = {role: ref.digest for role, ref in spec.inputs.items()}
        self.input_digests |= spec.external
        self.digest = stage_digest(
            stage=spec.name,
            module=spec.module,
            parameters=spec.parameters,
            seed=pipeline.seed,
            inputs=self.input_digests,
        )

    @functools.cached_property
    def record(self) -> StageRecord:
        return StageRecord(self.spec, self.digest, self.pipeline, self.settings)

    def result(self, learn: Learn) -> StageRef:
        with faults_explained(self.settings), self._lock(self.spec.name, self.digest):
            manifest = self._find(self.spec.name, self.digest)
            ref = self._reuse(manifest) if manifest is not None else self._compute(learn)
        announce_stage(ref, self.pipeline.name)
        overview().end_stage(ref, self.pipeline.part)
        return ref

    def _lock(self, stage: str, digest: str) -> AbstractContextManager[None]:
        def say_waiting() -> None:
            self.logger.info("%s %s: another run is computing it; waiting", stage, digest[:12])

        return self.store.lock(stage, digest, on_wait=say_waiting)

    def _find(self, stage: str, digest: str) -> Manifest | None:
        return self.store.find(stage, digest) or fetch_published(
            self.store, self.record.tracker, stage, digest
        )

    def _open_input(self, ref: StageRef) -> Path:
        """Give an input's verified folder, from MLflow if another machine made it."""
        with self._lock(ref.stage, ref.digest):
            found = self._find(ref.stage, ref.digest)
        if found is None:
            return self.store.open(ref)  # raises, naming the stage and the remedy
        return self.store.folder(ref.stage, ref.digest)

    def _reuse(self, manifest: Manifest) -> StageRef:
        self.logger.info("%s %s: finished before, reused", self.spec.name, self.digest[:12])
        folder = self.store.folder(self.spec.name, self.digest)
        self.store.drop_partial(self.spec.name, self.digest)
        show_page(self.spec, manifest, folder, self.settings, again=False, part=self.pipeline.part)
        self.record.show_reuse(manifest)
        return self._ref(manifest.run_id, manifest.metrics, reused=True)

    def _compute(self, learn: Learn) -> StageRef:
        partial = self.store.partial(self.spec.name, self.digest)
        buffer = self.record.open(partial)
        bar, live = (
            overview().begin(self.spec.name, self.pipeline.part),
            live_page(self.spec, partial),
        )
        progress = Progress(self.spec.name, self.spec.total_steps, bar, live)
        out = self.store.writing(self.spec.name, self.digest)
        self.logger.info("%s %s: starting", self.spec.name, self.digest[:12])
        spent = Spent(partial)
        try:
            work = self._workspace(partial, out, buffer, progress, spent)
            with self._slot(work):
                forget_peak()
                # NaN and infinity could not be read back from a manifest, and draw no curve.
                metrics = {k: v for k, v in learn(work).items() if math.isfinite(v)}
            progress.finish()
            if (partial / HISTORY).exists():
                shutil.copyfile(partial / HISTORY, out / HISTORY)
            manifest = self._manifest(work, self.record.settle(), metrics, spent.seconds())
            write_manifest(out, manifest)
            show_page(self.spec, manifest, out, self.settings, again=True, part=self.pipeline.part)
            self.record.finish(manifest, out)
            self.store.publish(out, self.spec.name, self.digest)
        except BaseException as error:
            free = free_bytes(self.store.root)
            shutil.rmtree(out, ignore_errors=True)
            spent.note(at_once=True)
            self.record.abort(error)
            if by_full_disk(error, free):
                raise full_disk(error, self.store.root, free) from error
            raise
        self.logger.info("%s: done in %.1f s", self.spec.name, manifest.seconds)
        return self._ref(self.record.run_id, metrics, seconds=manifest.seconds)

    def _ref(
        self, run_id: str, metrics: dict[str, float], *, reused: bool = False, seconds: float = 0.0
    ) -> StageRef:
        return StageRef(
            stage=self.spec.name,
            digest=self.digest,
            run_id=run_id,
            reused=reused,
            seconds=seconds or time.monotonic() - self.started,
            metrics=metrics,
        )

    def _slot(self, work: Workspace) -> AbstractContextManager[None]:
        if not self.spec.trains:
            return nullcontext()
        devices = 1 if work.device == "cpu" else work.learner.scale.here
        return training_slot(self.settings, work.device, self.spec.name, devices=devices)

    def _workspace(
        self, partial: Path, out: Path, buffer: MetricBuffer, progress: Progress, spent: Spent
    ) -> Workspace:
        repair_history(partial)

        def log(metrics: Mapping[str, float], step: int) -> None:
            append_history(partial, metrics, step)
            buffer.add(metrics, step)
            progress.update(metrics, step)
            spent.note()

        refs = {ref.digest: ref for ref in self.spec.inputs.values()}  # one may have several roles
        folders = {digest: self._open_input(ref) for digest, ref in refs.items()}
        inputs = {role: folders[ref.digest] for role, ref in self.spec.inputs.items()}
        checkpoints = partial / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        device = use_device(self.settings.device, self.settings.threads)
        return Workspace(
            inputs=inputs,
            out=out,
            checkpoints=checkpoints,
            cache=self.settings.cache,
            device=device,
            log=log,
            learner=Learner(chosen_scale(self.settings, device), partial, device),
        )

    def _manifest(
        self, work: Workspace, run_id: str, metrics: dict[str, float], seconds: float
    ) -> Manifest:
        return Manifest(
            stage=self.spec.name,
            digest=self.digest,
            seed=self.pipeline.seed,
            parameters=dict(self.spec.parameters),
            inputs=self.input_digests,
            libraries=library_versions(),
            code=code_digest(self.spec.module),
            run_id=run_id,
            seconds=seconds,
            metrics=metrics,
            peak_gib=max(peak_memory(), work.learner.peak_bytes) / 2**30,
            scale=work.learner.used_scale(),
            files=list_files(work.out),
        )
