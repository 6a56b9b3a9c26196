"""The border between a model folder and the libraries that read it.

Here a folder is screened, read by transformers without any code of its own, and looked at once
more: every weight there, in use and finite. Whatever a library raises becomes a ModelError.
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
from transformers.utils import logging as transformers_logging

from models.errors import ModelError, QuartetError
from models.families.networks import parameter_count
from models.families.recognition import refuse_other_kind
from models.language.frames import guard_turns
from models.language.rendering import limit_templates
from models.language.screening import screen_model, screen_tokenizer

LOADING = threading.Lock()
"""Held while transformers reads a model; see `read_weights`."""

ARCHITECTURES = {
    AutoModelForCausalLM: ("ForCausalLM", "LMHeadModel"),
    AutoModelForPreTraining: ("ForPreTraining",),
    AutoModelForSeq2SeqLM: ("ForConditionalGeneration", "MTModel"),
    AutoModelForSequenceClassification: ("ForSequenceClassification",),
}
"""How the names of a loader's architectures end."""

MOST_UNUSED = 0.1
"""Share of a file's weights that a model may leave unused, such as heads for other purposes."""

COPY_AGAIN = "copy it or run its stage again, or choose another"


@contextmanager
def foreign_errors(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever a library raises at what it reads into a ModelError of one line.

    Libraries raise nearly everything at a damaged file, a panic of Rust included, which is no
    `Exception`. Only calls of libraries belong inside: a mistake of our own must stay visible.

    Args:
        what: That cannot be read, with its folder.

    Raises:
        ModelError: In place of the library's error.
    """
    try:
        yield
    except QuartetError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        printable = "".join(one if one.isprintable() else " " for one in str(error)[:1000])
        said = " ".join(printable.split())[:400]
        raise ModelError(
            f"{what} cannot be read ({type(error).__name__}: {said}); {remedy}"
        ) from error


def read_tokenizer(folder: Path) -> Any:
    """Read a tokenizer; its chat template is rendered within limits, and no text forges a turn.

    Raises:
        ModelError: It is damaged, or asks for code of its own.
    """
    config, settings = screen_tokenizer(folder)
    named = settings.get("tokenizer_class")
    known = not isinstance(named, str) or tokenizer_class_from_name(named) is not None
    if "auto_map" in settings and not known:
        raise _foreign_code(folder, named, "tokenizer_config.json")
    _refuse_foreign_type(folder, config)
    with foreign_errors(f"the tokenizer in {folder}", "copy it again, or choose another model"):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    template = tokenizer.chat_template or ""
    named = template.values() if isinstance(template, dict) else [template]
    if not all(isinstance(one, str) for one in named):
        raise ModelError(
            f"the tokenizer in {folder} has a chat template that is a {type(template).__name__}, "
            "a text was wanted; mend tokenizer_config.json, or choose another model"
        )
    limit_templates()
    guard_turns(tokenizer)
    return tokenizer


def read_weights(
    loader: Any, folder: Path, wanted: str, *, remedy: str, dtype: torch.dtype = torch.float32
) -> Any:
    """Read a model's safetensors without dropout, one model at a time.

    While transformers loads, its classes do not tie weights; two loads at once leave them so.

    Args:
        loader: A key of `ARCHITECTURES`.
        wanted: What a message calls the kind of model.
        remedy: What to do where it is another kind.
        dtype: Of the weights, whatever the files hold.

    Raises:
        ModelError: It is damaged, another kind of model or asks for code of its own; or a weight
            is absent, or not a finite number.
    """
    raw, sizes = screen_model(folder)
    _refuse_foreign_type(folder, raw)
    if loader is AutoModelForCausalLM:
        refuse_other_kind(str(folder), raw)
    with foreign_errors(f"the model in {folder}", COPY_AGAIN):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    config = without_dropout(_without_foreign_code(config))
    architecture = (config.architectures or [""])[0]
    if not architecture.endswith(ARCHITECTURES[loader]):
        raise ModelError(
            f"{folder} holds a {architecture or 'model without a named architecture'}, "
            f"a {wanted} was wanted; {remedy}"
        )
    if loader is AutoModelForSequenceClassification:
        known_score_heads(config)
    with LOADING, without_progress_bars(), foreign_errors(f"the model in {folder}", COPY_AGAIN):
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            outline = loader.from_config(config, dtype=torch.float32, trust_remote_code=False)
        refuse_other_size(folder, parameter_count(outline), sum(sizes.values()))
        model, report = loader.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    if missing := sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]])):
        raise ModelError(
            f"the weights of {folder} lack {', '.join(missing[:3])} ({len(missing)} in all), a "
            f"trained {wanted} was wanted; {COPY_AGAIN}"
        )
    if len(unused := sorted(report["unexpected_keys"])) > MOST_UNUSED * len(sizes):
        raise ModelError(
            f"the model in {folder} leaves {len(unused)} of its {len(sizes)} weights unused, such "
            f"as {unused[0]}, a config that describes them was wanted; {COPY_AGAIN}"
        )
    _refuse_infinite_weights(folder, model)
    return model.eval()


def refuse_short_embeddings(
    folder: Path, tokenizer: Any, model: Any, *, added: bool = False
) -> None:
    """Make sure that every token has a row in the embeddings.

    Args:
        added: Whether tokens that were added to the vocabulary may be without.

    Raises:
        ModelError: One has none.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    spared = tokenizer.get_added_vocab() if added else {}
    most = max(
        (one for word, one in tokenizer.get_vocab().items() if word not in spared), default=0
    )
    if most >= rows:
        raise ModelError(
            f"the tokenizer in {folder} has token ids up to {most} and its model embeddings of "
            f"{rows}, a row for each token was wanted; copy the tokenizer that belongs to the "
            "model, or take the model through adoption"
        )


def refuse_other_size(folder: Path, described: int, held: int) -> None:
    """Make sure, before memory is taken, that weights are about as many as a config describes."""
    if described > 2 * held:  # of fewer, those that are missing are named when they are read
        raise ModelError(
            f"config.json of {folder} describes {described} parameters, its weights hold {held}; "
            f"{COPY_AGAIN}"
        )


def _refuse_foreign_type(folder: Path, config: dict[str, Any]) -> None:
    if "auto_map" in config and config["model_type"] not in CONFIG_MAPPING:
        raise _foreign_code(folder, config["model_type"], "config.json")


def _foreign_code(folder: Path, kind: Any, file: str) -> ModelError:
    return ModelError(
        f"{folder} is a {str(kind)[:100]!r} and asks to run Python code that came with it "
        f"(auto_map in {file}); Quartet runs no foreign code: choose a model of a type that "
        "transformers knows"
    )


def _refuse_infinite_weights(folder: Path, model: Any) -> None:
    for name, tensor in model.named_parameters():
        if tensor.numel() and not all(map(math.isfinite, torch.aminmax(tensor.detach()))):
            raise ModelError(
                f"{name} in {folder} holds NaN or infinity, finite weights were wanted; its "
                "training diverged or the file is damaged: choose an earlier checkpoint, or copy it"
            )


def known_score_heads(config: Any) -> None:
    """Let transformers know a score head for a causal model's config where it has none.

    It is transformers' own for every decoder, on the trunk that AutoModel has for the config.
    """
    kind = type(config)
    if kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or kind not in MODEL_MAPPING:
        return
    trunk = MODEL_MAPPING[kind]
    name = trunk.__name__.removesuffix("Model") + "ForSequenceClassification"
    pretrained = next(one for one in trunk.__mro__[1:] if issubclass(one, PreTrainedModel))
    prefix = MODEL_FOR_CAUSAL_LM_MAPPING[kind].base_model_prefix
    made = type(
        name,
        (GenericForSequenceClassification, pretrained),
        {"config_class": kind, "base_model_prefix": prefix, "__module__": trunk.__module__},
    )
    AutoModelForSequenceClassification.register(kind, made, exist_ok=True)


def _without_foreign_code(config: Any) -> Any:
    """Forget the code that a config names, in place: transformers' own class is taken.

    Parts of a config are built by transformers without the flag that forbids foreign code; there it
    would ask on the terminal.
    """
    for part in (config, *(getattr(config, name) for name in config.sub_configs)):
        if hasattr(part, "auto_map"):
            del part.auto_map
    return config


def without_dropout(config: Any) -> Any:
    """Set every dropout rate of a config to zero, in place, and return it."""
    for name, value in list(vars(config).items()):
        if ("dropout" in name or "pdrop" in name) and isinstance(value, float):
            setattr(config, name, 0.0)
    return config


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing a bar for each file it reads or writes."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
