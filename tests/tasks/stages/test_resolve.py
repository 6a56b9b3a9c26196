"""A model's name: whichever of the five kinds it is, a checked published stage comes back."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from models.errors import ModelError, StoreError
from tasks.catalogue import Role
from tasks.registry.registration import register
from tasks.results.store import Manifest, StageRef, Store, list_files, write_manifest
from tasks.run.exchange import open_input, open_published
from tasks.run.pipeline import PipelineRun
from tasks.run.planning import planned
from tasks.settings import load_settings
from tasks.stages import adopt as adoption
from tasks.stages.resolve import find_model, model_folder
from tasks.tracking.client import Tracker

PIPELINE = PipelineRun(name="toy-1", preset="toy", seed=0, run_id="")
BASE, SFT, REWARD, DATA = "b" * 64, "5f" * 32, "4e" * 32, "d" * 64
Publish = Callable[..., StageRef]


@pytest.fixture
def publish(home: Path) -> Publish:
    """Publish a stage as run_stage does: into the store and into MLflow."""

    def make(
        stage: str,
        digest: str,
        inputs: Mapping[str, str] | None = None,
        *,
        model: bool = True,
        config: str = "",
    ) -> StageRef:
        store, tracker = Store(load_settings().store), Tracker(load_settings())
        tags = {"quartet.published": digest, "quartet.stage": stage}
        run_id = tracker.start_run(stage, parameters={}, tags=tags)
        out = store.writing(stage, digest)
        (out / "model").mkdir()
        (out / "model" / ("config.json" if model else "nothing")).write_text(config or digest)
        manifest = Manifest(
            stage=stage, digest=digest, seed=0, parameters={}, inputs=dict(inputs or {}),
            libraries={}, code="", run_id=run_id, seconds=0.0, metrics={}, files=list_files(out),
        )  # fmt: skip
        write_manifest(out, manifest)
        tracker.log_folder(run_id, out)
        store.publish(out, stage, digest)
        return StageRef(stage=stage, digest=digest, run_id=run_id)

    return make


@pytest.fixture
def causal(home: Path, tmp_path: Path) -> Path:
    """A complete causal language model in a folder."""
    from models.families.config import ArchitectureConfig
    from models.families.networks import build_model
    from models.language.config import TokenizerConfig
    from models.language.folders import load_tokenizer, save_model
    from models.language.tokenizer import train_tokenizer
    from models.rows import write_rows

    write_rows(tmp_path / "corpus.jsonl", [{"text": "the cat sat on the mat"}] * 4)
    train_tokenizer(
        corpus=tmp_path / "corpus.jsonl", config=TokenizerConfig(vocab_size=300), context=32,
        out=tmp_path / "tokenizer",
    )  # fmt: skip
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    architecture = ArchitectureConfig(layers=1, width=16, heads=2, context=32)
    save_model(build_model(architecture, tokenizer, seed=0), tokenizer, tmp_path / "causal")
    return tmp_path / "causal"


@pytest.fixture
def reward_model(causal: Path, tmp_path: Path) -> Path:
    """The same with a score head."""
    from models.language.folders import load_tokenizer, new_reward_model, save_model

    save_model(new_reward_model(causal, seed=0), load_tokenizer(causal), tmp_path / "reward")
    return tmp_path / "reward"


def test_find_model_takes_a_digest_whole_or_its_beginning(publish: Publish) -> None:
    publish("sft", SFT)
    for name in (f"sft/{SFT}", "sft/5f5f", " sft/5f5f5f5f "):
        ref = find_model(name, role="sft", pipeline=PIPELINE)
        assert (ref.stage, ref.digest, ref.reused) == ("sft", SFT, True)


def test_find_model_fetches_from_mlflow_what_the_store_lacks(publish: Publish) -> None:
    publish("sft", SFT)
    shutil.rmtree(load_settings().store)
    with pytest.raises(StoreError, match="names 0 published stages"):
        find_model("sft/5f5f", role="sft", pipeline=PIPELINE)
    assert find_model(f"sft/{SFT}", role="sft", pipeline=PIPELINE).digest == SFT
    assert (load_settings().store / "sft" / SFT / "model" / "config.json").read_text() == SFT


def test_find_model_takes_a_registered_model_by_alias_and_number(publish: Publish) -> None:
    register(publish("ppo", SFT), PIPELINE)
    shutil.rmtree(load_settings().store)  # another machine
    for name in ("models:/toy-policy/1", " models:/toy-policy/1 "):
        ref = find_model(name, role="policy", pipeline=PIPELINE)
        assert (ref.stage, ref.digest) == ("ppo", SFT)


def test_name_alone_is_a_folder_else_a_registered_model(
    publish: Publish, causal: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register(publish("sft", SFT), PIPELINE)
    assert find_model("toy-sft", role="sft", pipeline=PIPELINE).digest == SFT
    with model_folder("toy-sft") as found:
        assert (found.name, found.version) == ("toy-sft", "models:/toy-sft/1")
        assert found.path == load_settings().store / "sft" / SFT / "model"
    for name, role, said in (
        ("toy-sft", "reward", r"toy-sft \(models:/toy-sft/1\) is the result of stage sft"),
        ("sft/0123", "sft", "names 0 published stages"),
        ("models:/toy-sft/7", "sft", "does not give 'models:/toy-sft/7'"),
    ):
        with planned(), pytest.raises((ModelError, StoreError), match=said):
            find_model(name, role=cast(Role, role), pipeline=PIPELINE)
    shutil.copytree(causal, tmp_path / "toy-sft")
    monkeypatch.chdir(tmp_path)
    with model_folder("toy-sft") as found:
        assert (found.path, found.version) == (tmp_path / "toy-sft", "")


def test_find_model_refuses_the_stage_of_another_kind_by_name(publish: Publish) -> None:
    register(publish("reward", REWARD), PIPELINE)
    publish("sft", SFT)
    for name in (f"reward/{REWARD[:8]}", "models:/toy-reward@challenger"):
        with pytest.raises(ModelError, match="result of stage reward, wanted a sft model") as error:
            find_model(name, role="sft", pipeline=PIPELINE)
        assert name in str(error.value)
    with pytest.raises(ModelError, match="result of stage sft, wanted a reward model"):
        find_model("sft/5f5f", role="reward", pipeline=PIPELINE)


def test_find_model_refuses_a_stage_without_a_model(publish: Publish) -> None:
    publish("sft", SFT, model=False)
    with pytest.raises(ModelError, match="sft/5f5f holds no model"):
        find_model("sft/5f5f", role="sft", pipeline=PIPELINE)


@pytest.mark.parametrize(
    ("family", "why"),
    [("bert", "is a bert, which sees both sides"), ("bart", "is a bart, which writes one text")],
)
def test_find_model_refuses_what_does_not_predict_the_next_token(
    causal: Path, tmp_path: Path, publish: Publish, family: Any, why: str
) -> None:
    from models.families.config import ArchitectureConfig
    from models.families.networks import build_model
    from models.language.folders import load_causal_model, load_tokenizer, save_model

    sizes = ArchitectureConfig(family=family, layers=1, width=16, heads=2, context=32)
    tokenizer = load_tokenizer(causal)
    model = build_model(sizes, tokenizer, seed=0)
    save_model(model, tokenizer, tmp_path / "other")
    save_model(model.base_model, tokenizer, tmp_path / "trunk")
    for name in ("other", "trunk"):
        with planned(), pytest.raises(ModelError, match=why):
            find_model(str(tmp_path / name), role="base", pipeline=PIPELINE)
        with pytest.raises(ModelError, match=why):
            load_causal_model(tmp_path / name)
    publish("pretrain", SFT, config=(tmp_path / "other" / "config.json").read_text())
    with pytest.raises(ModelError, match=rf"pretrain/5f5f {why}"):
        find_model("pretrain/5f5f", role="base", pipeline=PIPELINE)


@pytest.mark.parametrize("name", ["", "/no/such/folder", "a/b/c", "what is this?", "~/nowhere"])
def test_find_model_refuses_what_is_no_name_without_asking_the_hub(
    home: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(adoption, "HfApi")
    with pytest.raises(ModelError, match=r"model .* is no folder here"):
        find_model(name, role="sft", pipeline=PIPELINE)


def test_find_model_adopts_a_folder_as_the_role_that_is_wanted(
    causal: Path, reward_model: Path, prefect_server: str
) -> None:
    sft = find_model(str(causal), role="sft", pipeline=PIPELINE)
    reward = find_model(str(reward_model), role="reward", pipeline=PIPELINE)
    assert (sft.stage, reward.stage) == ("sft", "reward")
    assert find_model(f"sft/{sft.digest}", role="policy", pipeline=PIPELINE).digest == sft.digest
    assert find_model(str(causal), role="sft", pipeline=PIPELINE).reused
    files = {path.name for path in (load_settings().store / "reward" / reward.digest).rglob("*")}
    assert {"config.json", "model.safetensors", "tokenizer.json", "score_moments.json"} <= files


def test_find_model_refuses_a_folder_of_the_wrong_architecture(
    causal: Path, reward_model: Path, prefect_server: str
) -> None:
    with pytest.raises(ModelError, match="LlamaForCausalLM, a sequence classifier"):
        find_model(str(causal), role="reward", pipeline=PIPELINE)
    with pytest.raises(ModelError, match="LlamaForSequenceClassification, a causal"):
        find_model(str(reward_model), role="sft", pipeline=PIPELINE)


def test_find_model_adopts_a_registered_model_from_elsewhere(
    causal: Path, prefect_server: str
) -> None:
    tracker = Tracker(load_settings())
    run_id = tracker.start_run("by hand", parameters={}, tags={})
    tracker.log_folder(run_id, causal, "mine")
    logged = tracker.client.create_logged_model(tracker.experiment_id, name="theirs")
    tracker.client.log_model_artifacts(logged.model_id, str(causal))
    tracker.client.finalize_logged_model(logged.model_id, "READY")
    tracker.client.create_registered_model("theirs")
    tracker.client.create_model_version("theirs", f"runs:/{run_id}/mine", run_id=run_id)
    tracker.client.create_model_version("theirs", logged.model_uri, model_id=logged.model_id)
    first = find_model("models:/theirs/1", role="sft", pipeline=PIPELINE)
    second = find_model("models:/theirs/2", role="sft", pipeline=PIPELINE)
    assert first.stage == "sft"
    assert second.digest == first.digest  # the same files
    assert second.reused


def test_open_published_takes_a_digest_or_its_beginning(publish: Publish) -> None:
    publish("prepare", DATA)
    for digest in (DATA, "dddd"):
        assert open_published("prepare", digest).digest == DATA
    for digest in ("5f5f", ""):
        with pytest.raises(StoreError, match="wanted exactly one"):
            open_published("prepare", digest)


def test_input_of_follows_lineage_whichever_stage_made_it(publish: Publish) -> None:
    publish("base", BASE)
    sft = publish("sft", SFT, {"base": BASE, "model": "owner/model@main"})
    publish("reward", REWARD)
    ppo = publish("ppo", "9" * 64, {"reference": SFT, "reward_model": REWARD, "prompts": DATA})
    found = [open_input(ppo, role) for role in ("reference", "reward_model", "prompts", "base")]
    assert [one and (one.stage, one.digest) for one in found] == [
        ("sft", SFT),
        ("reward", REWARD),
        None,  # not here, nor in MLflow
        None,  # no such role
    ]
    base = open_input(sft, "base")
    assert base is not None
    assert (base.stage, base.digest) == ("base", BASE)
    assert open_input(sft, "model") is None  # from outside


def test_input_of_asks_mlflow_for_what_the_store_lacks(publish: Publish) -> None:
    publish("reward", REWARD)
    ppo = publish("ppo", "9" * 64, {"reward_model": REWARD})
    shutil.rmtree(load_settings().store / "reward")
    found = open_input(ppo, "reward_model")
    assert found is not None
    assert (found.stage, found.digest) == ("reward", REWARD)


def test_inputs_import_no_torch() -> None:
    code = (
        "import tasks.stages.resolve, sys;"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]
