"""The flow and the command that evaluate any models, on models published for the purpose."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import flows.benchmarks
import flows.evaluation
from flows.benchmarks import benchmark_flow
from flows.cli.evaluate import benchmark, evaluate
from flows.evaluation import evaluate_models_flow
from flows.forms import StageForm
from flows.names import split_label
from flows.planning.plan import plan_of
from models.benchmarks.config import MultipleChoiceConfig
from models.errors import DataError, ParameterError
from models.evaluation.result import read_result
from models.rows import write_rows
from tasks.judging.config import EvaluateModelsConfig
from tasks.results.store import StageRef, Store
from tasks.run.pipeline import PipelineRun
from tasks.run.spec import StageSpec
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace
from tasks.settings import load_settings

WORDS = "the cat sat on the mat and slept all day; a dog ran home over the hill."
SHORT = ("sampling.max_completion_tokens=6",)


@pytest.fixture
def publish(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StageRef]:
    """Publish an untrained model as a stage's result."""
    from models.families.config import ArchitectureConfig
    from models.families.networks import build_model
    from models.language.config import TokenizerConfig
    from models.language.folders import load_tokenizer, new_reward_model, save_model
    from models.language.tokenizer import train_tokenizer

    monkeypatch.setenv("QUARTET_DEVICE", "cpu")
    write_rows(tmp_path / "corpus.jsonl", [{"text": WORDS}] * 4)
    train_tokenizer(
        corpus=tmp_path / "corpus.jsonl",
        config=TokenizerConfig(vocab_size=320),
        context=48,
        out=tmp_path / "tokenizer",
    )
    write_rows(tmp_path / "mine.jsonl", [{"prompt": word} for word in WORDS.split()])
    architecture = ArchitectureConfig(layers=1, width=16, heads=2, context=48)

    def make(stage: str, seed: int, **inputs: StageRef) -> StageRef:
        def learn(work: Workspace) -> dict[str, float]:
            tokenizer, out = load_tokenizer(tmp_path / "tokenizer"), work.out / "model"
            save_model(build_model(architecture, tokenizer, seed=seed), tokenizer, out)
            if stage == "reward":
                save_model(new_reward_model(out, seed=seed), tokenizer, out)
            return {}

        pipeline = PipelineRun(name="toy", preset="toy", seed=seed, run_id="")
        spec = StageSpec(name=stage, module="models.rows", parameters={}, inputs=inputs)
        return run_stage(spec, pipeline, learn)

    return make


def test_flow_finds_reward_model_and_reference_in_the_models_origin(
    publish: Callable[..., StageRef], prefect_server: str, tmp_path: Path
) -> None:
    sft, reward = publish("sft", 0), publish("reward", 1)
    ppo = publish("ppo", 2, reference=sft, reward_model=reward)
    ref = evaluate_models_flow(
        [f"sft/{sft.digest}", f"new = ppo/{ppo.digest[:12]}"],
        StageForm.of("quickstart", SHORT),
        EvaluateModelsConfig(prompts=3, samples_per_prompt=2, bootstrap_resamples=100),
        prompts_file=str(tmp_path / "mine.jsonl"),
    )
    assert isinstance(ref, StageRef)
    store = Store(load_settings().store)
    manifest = store.find(ref.stage, ref.digest)
    assert manifest is not None
    inputs = {role: digest for role, digest in manifest.inputs.items() if role != "prompts"}
    assert inputs == {
        "model_1": ppo.digest,  # "new" comes before "sft/…"
        "model_2": sft.digest,
        "reference": sft.digest,
        "reward_model": reward.digest,
    }
    result = read_result(store.folder(ref.stage, ref.digest))
    assert list(result.measures) == ["new", f"sft/{sft.digest}"]
    assert result.prompts == 3


def test_command_prints_the_report_and_refuses_in_one_line(
    publish: Callable[..., StageRef], prefect_server: str, tmp_path: Path
) -> None:
    app = typer.Typer()
    app.command()(evaluate)
    words = [f"a=sft/{publish('sft', 0).digest}", f"b=sft/{publish('sft', 1).digest}"]
    words += ["--prompts", str(tmp_path / "mine.jsonl"), "--count", "3", "--samples", "2"]
    words += ["--set", SHORT[0]]
    done = CliRunner().invoke(app, [*words, "--judge", "vader"])
    assert done.exit_code == 0, done.output
    assert "Win rates under the VADER sentiment judge" in done.output
    assert "on 3 prompts" in done.output
    wrong = CliRunner().invoke(app, [*words, "--judge", "nobody"])
    assert isinstance(wrong.exception, ParameterError)
    assert "judges.0" in str(wrong.exception)
    lacking = CliRunner().invoke(app, words)  # the reward model of nothing that PPO made
    assert lacking.exit_code == 2
    assert "no reward model was given" in lacking.stderr


def test_benchmark_prints_its_page_and_where_the_numbers_are(
    publish: Callable[..., StageRef], prefect_server: str, tmp_path: Path
) -> None:
    app = typer.Typer()
    app.command()(benchmark)
    row = {"question": "the cat sat on the", "choices": ["mat", "hill"], "label": 0}
    write_rows(tmp_path / "questions.jsonl", [row])
    words = ["a=sft/" + publish("sft", 0).digest[:8], "--file", str(tmp_path / "questions.jsonl")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "## questions.jsonl: 1 questions, 0 examples shown, plain prompts" in done.output
    folder = Path(done.output.split("Results  ")[1].split("\n")[0].strip())
    assert (folder / "answers.jsonl").is_file()


@pytest.mark.parametrize(
    ("command", "words", "partner"),
    [
        (evaluate, ["--judge", "vader", "--reward-model", "x"], "--judge reward"),
        (evaluate, ["--judge-model", "x"], "--judge judge"),
        (evaluate, ["--endpoint-url", "http://127.0.0.1:9/v1"], "--judge endpoint"),
        (evaluate, ["--endpoint-model", "x"], "--judge endpoint"),
        (evaluate, ["--criteria", "short"], "--judge endpoint"),
        (benchmark, ["--lm-eval-folder", "x"], "--lm-eval"),
        (benchmark, ["--lm-eval-rows", "3"], "--lm-eval"),
        (benchmark, ["--examples", "x"], "--shots"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    command: Callable[..., None], words: list[str], partner: str
) -> None:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, ["m", *words])
    assert isinstance(done.exception, ParameterError)
    assert str(done.exception).startswith(f"{words[-2]} does nothing without {partner};")


def test_data_and_what_only_ppo_needs_are_not_asked_for_where_nothing_reads_them(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = StageRef(stage="sft", digest="a" * 64)
    for module in (flows.evaluation, flows.benchmarks):
        monkeypatch.setattr(module, "find_model", lambda name, **_: found)
    row = {"question": "the cat sat on the", "choices": ["mat", "hill"], "label": 0}
    write_rows(tmp_path / "questions.jsonl", [row])
    write_rows(tmp_path / "mine.jsonl", [{"prompt": "the cat"}])
    nowhere = [f"data.folder={tmp_path}/none", "ppo.rollout_engine=server"]
    form = StageForm.of("reviews", nowhere)
    judging = EvaluateModelsConfig(judges=["vader"])
    made = plan_of(
        evaluate_models_flow, ["m"], form, judging, prompts_file=f"{tmp_path}/mine.jsonl"
    )
    assert made.new == ["evaluate-models"]
    file = f"{tmp_path}/questions.jsonl"
    made = plan_of(benchmark_flow, ["m"], form, MultipleChoiceConfig(), file=file)
    assert made.new == ["multiple-choice"]
    shown = plan_of(benchmark_flow, ["m"], form, MultipleChoiceConfig(), file=file, examples=file)
    assert shown.stages[0].digest == made.stages[0].digest  # no example is shown
    with pytest.raises(DataError, match="nothing there"):
        plan_of(evaluate_models_flow, ["m"], form, judging)


def test_labels_come_from_the_name_or_stand_before_it(tmp_path: Path) -> None:
    assert split_label("models:/q-sft@champion") == ("q-sft@champion", "models:/q-sft@champion")
    assert split_label(" mine = sft/3fa8 ") == ("mine", "sft/3fa8")
    assert split_label("sft/3fa8") == ("sft/3fa8", "sft/3fa8")
    assert split_label(str(tmp_path)) == (tmp_path.name, str(tmp_path))
    for nothing in ("~nobody", "a" * 300):
        assert split_label(nothing) == (nothing, nothing)
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert split_label(str(odd)) == ("a=b", str(odd))  # an = inside a path is no label


@pytest.mark.parametrize("models", [[], ["sft/3fa8", "sft/3fa8"], ["a=sft/1", "a=sft/2"]])
def test_flow_refuses_models_that_it_could_not_tell_apart(
    home: Path, prefect_server: str, models: list[str]
) -> None:
    with pytest.raises(ParameterError, match="each once"):
        evaluate_models_flow(models, StageForm.of("quickstart"), EvaluateModelsConfig())


def test_form_of_the_flow_has_no_free_editors() -> None:
    """What the UI draws: a union or a free dict would be an editor for raw JSON."""
    from prefect.utilities.callables import parameter_schema

    schema = json.dumps(parameter_schema(evaluate_models_flow).model_dump(mode="json"))
    assert "anyOf" not in schema
    assert '"additionalProperties": true' not in schema


def test_command_imports_no_server_before_it_is_called() -> None:
    code = (
        "import sys, flows.cli.evaluate\n"
        "print([name for name in ('prefect', 'mlflow', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
