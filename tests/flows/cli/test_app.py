"""The command line answers what is wrong in one line with status 2, before anything starts."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from flows.parameters import load_preset
from flows.planning.checks import check_parameters
from models.errors import DataError, ParameterError

BLOCK = (
    "import sys\n"
    "class Refuse:\n"
    "    def find_spec(self, name, *_):\n"
    "        if name.split('.')[0] in ('prefect', 'mlflow', 'torch'):\n"
    "            raise AssertionError(f'{name} was imported')\n"
    "sys.meta_path.insert(0, Refuse())\n"
    "from flows.cli.app import main\n"
    "main()\n"
)


def quartet(
    *words: str, home: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command with servers and torch out of reach."""
    return subprocess.run(
        [sys.executable, "-c", BLOCK, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "QUARTET_HOME": str(home), **(environment or {})},
        cwd=home.parent,
    )


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (
            ["quikstart"],
            ["unknown preset 'quikstart'", "hh-rlhf, quickstart, reviews, reviews-pretrained"],
        ),
        (["quickstart", "--set", "ppo.kl=1"], ["unknown field 'ppo.kl'", "kl_coef"]),
        (["quickstart", "--set", "ppo"], ["path.to.field=value"]),
        (["quickstart", "--set", "ppo.kl_coef=x"], ["ppo.kl_coef: got 'x'", "valid number"]),
        (
            ["quickstart", "--set", "ppo.rollouts_per_minibatch=48"],
            ["does not divide", "rollouts_per_iteration 128"],
        ),
        (["quickstart", "--set", "model.family=t5"], ["got 't5'", "'llama', 'gpt2'"]),
        (["quickstart", "--set", "model.family=bert"], ["predicts the next token", "llama"]),
        (["reviews", "--set", "data.folder=nowhere"], ["nowhere", "pretrain", "data.folder"]),
        (["quickstart", "--result", "no/such/folder/r.json"], ["no/such/folder", "--result"]),
    ],
)
def test_run_refuses_in_one_line_before_anything_starts(
    tmp_path: Path, words: list[str], wanted: list[str]
) -> None:
    home = tmp_path / "home"
    done = quartet("run", *words, home=home)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("quartet: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for part in wanted:
        assert part in done.stderr
    assert list(tmp_path.iterdir()) == []  # not even a home folder


def test_run_refuses_a_wrong_environment_variable(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = quartet("run", "quickstart", home=home, environment={"QUARTET_DEVICE": "gpu"})
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "QUARTET_DEVICE: got 'gpu'" in done.stderr
    assert not home.exists()


@pytest.mark.parametrize("command", ["up", "status", "doctor", "sync"])
def test_operating_commands_refuse_a_wrong_environment_variable(
    tmp_path: Path, command: str
) -> None:
    home = tmp_path / "home"
    done = quartet(command, home=home, environment={"QUARTET_THREADS": "many"})
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "QUARTET_THREADS: got 'many'" in done.stderr
    assert not home.exists()


def test_up_refuses_one_port_for_both_servers(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = quartet("up", "--prefect-port", "5000", home=home)
    assert done.returncode == 2, done.stderr
    assert "choose two ports" in done.stderr
    assert not home.exists()


def test_version_and_presets_with_their_values_answer_at_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert quartet("--version", home=home).stdout == f"quartet {version('quartet-rlhf')}\n"
    done = quartet("presets", "quickstart", home=home)
    assert done.returncode == 0, done.stderr
    title, _, head, first, *rest = done.stdout.splitlines()
    assert title.startswith("quickstart: The whole pipeline in minutes")
    assert head.split() == ["field", "value", "what", "it", "is"]
    assert first.split()[:3] == ["*", "tokenizer.vocab_size", "2000"]  # differs from the defaults
    lines = [line.split() for line in rest]
    same = next(place for place, words in enumerate(lines) if words[:2] == ["seed", "0"])
    assert not any(words[0] == "*" for words in lines[same:] if words)
    assert any(words[:3] == ["*", "ppo.kl_coef", "0.2"] for words in lines)
    assert any(words[:2] == ["ppo.gae_lambda", "0.95"] for words in lines)
    done = quartet("presets", "quikstart", home=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'quickstart'" in done.stderr
    assert not home.exists()


def test_run_refuses_an_empty_folder_and_names_what_it_wants(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    done = quartet("run", "reviews", "--set", "data.folder=mine", home=tmp_path / "home")
    assert done.returncode == 2, done.stderr
    assert "pretrain, sft, pairs_train" in done.stderr


def test_run_wants_a_corpus_only_where_one_is_trained_on(tmp_path: Path) -> None:
    for name in ("sft", "pairs_train"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n")
    settings = [f"data.folder={tmp_path}"]
    given = ["base.source=some/model", "ppo.ptx_coef=0"]
    check_parameters(load_preset("reviews", [*settings, *given]))
    for more in ([], ["base.source=some/model", "ppo.ptx_coef=0.1"]):
        with pytest.raises(DataError, match="no file for pretrain"):
            check_parameters(load_preset("reviews", [*settings, *more]))


def test_run_wants_a_rollout_server_where_one_is_to_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("QUARTET_ROLLOUT_SERVER", raising=False)
    parameters = load_preset("quickstart", ["ppo.rollout_engine=server"])
    with pytest.raises(ParameterError, match="QUARTET_ROLLOUT_SERVER"):
        check_parameters(parameters)
    check_parameters(load_preset("quickstart", ["ppo.rollout_engine=server", "align=dpo"]))
    monkeypatch.setenv("QUARTET_ROLLOUT_SERVER", "http://127.0.0.1:8000/v1")
    check_parameters(parameters)


def test_run_wants_two_raters_where_two_are_to_rate_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUARTET_RATERS", "ann")
    twice = ["feedback.annotator=people", "feedback.rated_twice=0.1"]
    parameters = load_preset("quickstart", twice)
    with pytest.raises(ParameterError, match="QUARTET_RATERS names 1 MLflow accounts"):
        check_parameters(parameters)
    monkeypatch.setenv("QUARTET_RATERS", "ann,bob")
    check_parameters(parameters)


def test_presets_lists_each_preset_on_a_line(tmp_path: Path) -> None:
    done = quartet("presets", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "hh-rlhf",
        "quickstart",
        "reviews",
        "reviews-pretrained",
        "foundations",
    ]
    assert all(len(line.split()) > 3 for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_help_names_the_commands(tmp_path: Path) -> None:
    done = quartet("--help", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert "run" in done.stdout
    for command in ("presets", "up", "status", "doctor", "sync"):
        assert command in done.stdout
