"""A classifier on the trunk of a published model: transformers' own, for every family.

The trunk is that of a causal language model, of BERT or of BART; the head is the one that
transformers' sequence classifier of the family has, with fresh weights. So a published folder loads
in plain transformers as well.

The control for "pretraining helps" is the same network with fresh weights throughout, drawn as the
family draws them before pretraining.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForPreTraining,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from models.errors import ModelError, ParameterError
from models.families.config import Kind
from models.heads.config import HeadConfig
from models.heads.formats import Task
from models.language.reading import ARCHITECTURES, known_score_heads, read_weights
from models.language.screening import read_json
from models.language.sequences import language_head
from models.randomness import derive_seed

LOADERS: dict[Kind, Any] = {
    "causal": AutoModelForCausalLM,
    "masked": AutoModelForPreTraining,
    "seq2seq": AutoModelForSeq2SeqLM,
}
WANTED = "causal language model, BertForPreTraining or BartForConditionalGeneration"

NO_AUXILIARY = {
    "masked": "its language-modelling loss needs masked texts, which the head would then read",
    "seq2seq": "its decoder reads the text in the encoder, so it would learn to copy",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadNetwork:
    """A classifier, and what is needed beside it.

    Attributes:
        model: A sequence classifier of transformers, on the CPU, in evaluation mode.
        language_head: Gives a causal model's logits of its last hidden states; None for others. It
            shares the input embeddings' weight where these are tied; else it does not learn.
    """

    model: Any
    kind: Kind
    language_head: Any

    @property
    def pad(self) -> int:
        """The pad token, which a classifier's forward pass must know."""
        return int(self.model.config.pad_token_id)


def base_kind(base: Path) -> Kind:
    """Say which kind of trunk a model folder holds.

    Raises:
        ModelError: None that a head can be put on.
    """
    architecture = str((read_json(base, "config.json").get("architectures") or [""])[0])
    for kind, loader in LOADERS.items():
        if architecture.endswith(ARCHITECTURES[loader]):
            return kind
    raise ModelError(
        f"{base} holds a {architecture or 'model without a named architecture'}, a {WANTED} was "
        "wanted; give the folder of a pretrain stage"
    )


def new_network(base: Path, task: Task, config: HeadConfig, *, pad: int, seed: int) -> HeadNetwork:
    """Put a fresh head on the trunk of a model, pretrained or with fresh weights.

    Args:
        base: Folder of a pretrained model.
        pad: The pad token of its tokenizer.
        seed: Of the head, and of all weights where `config.initial` is random.

    Raises:
        ModelError: The folder is not complete, or transformers has no classifier for its family.
        ParameterError: An auxiliary loss is wanted of a family that has none.
    """
    kind = base_kind(base)
    if config.auxiliary_weight and kind != "causal":
        raise ParameterError(
            f"auxiliary_weight is {config.auxiliary_weight:g} for a {kind} model: "
            f"{NO_AUXILIARY[kind]}; set it to 0 or choose a causal model"
        )
    pretrained = read_weights(
        LOADERS[kind], base, WANTED, remedy="give the folder of a pretrain stage"
    )
    if config.initial == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "weights"))
            pretrained = type(pretrained)(pretrained.config).float()
    model = classifier_on(pretrained, task, seed=derive_seed(seed, "head"))
    model.config.pad_token_id = pad
    if config.trunk == "frozen":
        model.base_model.requires_grad_(False)
    head = None
    if kind == "causal":
        head = language_head(pretrained)
        tied = pretrained.get_output_embeddings().weight is model.get_input_embeddings().weight
        if not tied:
            pretrained.get_output_embeddings().requires_grad_(False)
    return HeadNetwork(model=model, kind=kind, language_head=head)


def classifier_on(pretrained: Any, task: Task, *, seed: int) -> Any:
    """Put a sequence classifier's head, with fresh weights, on the trunk of a model.

    The trunk's weights are shared, not copied: one of the two may learn.

    Args:
        seed: Of the head's weights, drawn from N(0, initializer_range); biases are 0.

    Raises:
        ModelError: transformers has no classifier for the family.
    """
    config = copy.deepcopy(pretrained.config)
    config.id2label = dict(enumerate(task.labels or (task.name,)))
    config.label2id = {name: number for number, name in config.id2label.items()}
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not config.is_encoder_decoder:
        known_score_heads(config)
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            model = AutoModelForSequenceClassification.from_config(
                config, dtype=torch.float32, trust_remote_code=False
            )
    except ValueError as error:
        raise ModelError(
            f"transformers has no sequence classifier for a {config.model_type}; wanted a family "
            "that has one, such as llama, gpt2, bert or bart"
        ) from error
    trunk = pretrained.base_model
    shared: dict[int, Any] = {id(one): one for one in (*trunk.parameters(), *trunk.buffers())}
    setattr(
        model,
        model.base_model_prefix,
        copy.deepcopy(trunk, shared | {id(pretrained.config): model.config}),
    )
    generator = torch.Generator().manual_seed(seed)
    spread = getattr(config, "initializer_range", getattr(config, "init_std", 0.02))
    for module in model.modules():
        if any(one.is_meta for one in module.parameters(recurse=False)):
            module.to_empty(device="cpu", recurse=False)
            torch.nn.init.normal_(module.weight, 0.0, spread, generator=generator)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
    return model.eval()


def load_classifier(folder: Path) -> Any:
    """Load a published classifier; float32, on the CPU.

    Raises:
        ModelError: The folder is incomplete, damaged, or holds another kind of model.
    """
    return read_weights(
        AutoModelForSequenceClassification,
        folder,
        "classifier",
        remedy="give the folder of an understand stage",
    )
