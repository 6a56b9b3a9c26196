"""A classifier on the trunk of a published model: transformers' own, for every family.

The trunk is that of a causal language model, of BERT or of BART; the head is the one that
transformers' sequence classifier of the family has, with fresh weights. So a published folder loads
in plain transformers as well.

The control for "pretraining helps" is the same network with fresh weights throughout, drawn as the
family draws them before pretraining.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from models.distributed.team import current_team
from models.errors import ParameterError
from models.families.config import Kind, kind_of
from models.families.language_heads import language_head
from models.families.recognition import refuse_unaligned_model
from models.heads.config import HeadConfig
from models.heads.formats import Task
from models.language.folders import draw_head, load_trunk, reward_model_on, trunk_type
from models.language.reading import read_weights
from models.language.screening import read_json
from models.randomness import derive_seed

HEAD_STD = 0.02
"""Of a head's first weights, as in GPT-1 (section 4.1): a fresh head says next to nothing, so its
first steps leave the trunk as it was pretrained."""

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


def new_network(
    base: Path, task: Task, config: HeadConfig, *, pad: int, seed: int, device: str
) -> HeadNetwork:
    """Put a fresh head on the trunk of a model, pretrained or with fresh weights.

    Args:
        base: Folder of a pretrained model.
        pad: The pad token of its tokenizer.
        seed: Of the head, and of all weights where `config.initial` is random.
        device: Where it will learn.

    Raises:
        ModelError: The folder is not complete, or no decoder, BERT or BART of transformers.
        ParameterError: An auxiliary loss is wanted of a family that has none, or models are spread
            over processes.
    """
    kind = kind_of(trunk_type(base))
    if config.auxiliary_weight and kind != "causal":
        raise ParameterError(
            f"auxiliary_weight is {config.auxiliary_weight:g} for a {kind} model: "
            f"{NO_AUXILIARY[kind]}; set it to 0 or choose a causal model"
        )
    if current_team().shards:
        raise ParameterError(
            "models with heads are not spread over processes, but QUARTET_SHARDING or "
            "QUARTET_TENSOR_PARALLEL says so; choose sharding replicate and no tensor parallelism"
        )
    if kind == "causal":
        sizes = read_json(base, "config.json")
        refuse_unaligned_model(str(base), sizes)
    pretrained = load_trunk(base)
    if config.initial == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "weights"))
            pretrained = type(pretrained)(pretrained.config).float()
    model = reward_model_on(pretrained, labels=task.outputs)
    draw_head(model, seed=derive_seed(seed, "head"), std=HEAD_STD)
    model.config.id2label = dict(enumerate(task.labels or (task.name,)))
    model.config.label2id = {name: number for number, name in model.config.id2label.items()}
    model.config.pad_token_id = pad
    if config.trunk == "frozen":
        model.base_model.requires_grad_(False)
    if kind != "causal":
        return HeadNetwork(model=model, kind=kind, language_head=None)
    layer = pretrained.get_output_embeddings().to(device)
    if layer.weight is not model.get_input_embeddings().weight:
        layer.requires_grad_(False)
    return HeadNetwork(model=model, kind=kind, language_head=language_head(pretrained))


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
