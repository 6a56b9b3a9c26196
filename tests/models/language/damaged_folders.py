"""Ways in which a model folder from elsewhere is damaged or hostile, each by one function.

Every function changes a copy of a good folder of a tiny Llama.
"""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

DAMAGES: dict[str, Callable[[Path], None]] = {}

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG, TOKENIZER, SETTINGS = "config.json", "tokenizer.json", "tokenizer_config.json"
EMBEDDING = "model.embed_tokens.weight"

TRAP = "import os; os.makedirs(os.path.join(os.getcwd(), 'TRAPPED'), exist_ok=True)"
"""Python code whose run can be seen."""


def damage(function: Callable[[Path], None]) -> Callable[[Path], None]:
    DAMAGES[function.__name__] = function
    return function


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    value |= changes
    kept = {key: one for key, one in value.items() if one is not ...}
    path.write_text(json.dumps(kept), encoding="utf-8")


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def configs(**named: dict[str, Any]) -> None:
    """One damage for each change of config.json."""
    for name, changes in named.items():
        DAMAGES[f"config_{name}"] = lambda folder, changes=changes: edit(folder, CONFIG, **changes)


def contents(**named: tuple[str, bytes]) -> None:
    """One damage for each file that is replaced."""
    for name, (file, content) in named.items():
        DAMAGES[name] = lambda folder, file=file, content=content: (folder / file).write_bytes(
            content
        )


def weights(**named: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """One damage for each change of the tensors."""
    for name, change in named.items():
        DAMAGES[f"weights_{name}"] = lambda folder, change=change: edit_weights(folder, change)


def header(value: object, size: int | None = None) -> bytes:
    text = json.dumps(value).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text


def shard(folder: Path, **names: str) -> None:
    """Split the weights over two files, with an index that may name others."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    where = {name: files[place % 2] for place, name in enumerate(sorted(tensors))}
    for file in files:
        own = {name: tensors[name] for name in tensors if where[name] == file}
        save_file(own, folder / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": where | names}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


# --- weights --------------------------------------------------------------------------------------

FIRST = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}

contents(
    weights_empty=(WEIGHTS, b""),
    weights_four_bytes=(WEIGHTS, b"\x01\x00\x00\x00"),
    weights_noise=(WEIGHTS, bytes(range(256)) * 64),
    weights_header_longer_than_the_file=(WEIGHTS, header(FIRST, 10**6) + bytes(16)),
    weights_header_of_exabytes=(WEIGHTS, header(FIRST, 2**63)),
    weights_header_no_json=(WEIGHTS, struct.pack("<Q", 9) + b"{not json"),
    weights_header_a_list=(WEIGHTS, header([1, 2])),
    weights_header_deep=(WEIGHTS, struct.pack("<Q", 40_000) + b"[" * 20_000 + b"]" * 20_000),
    weights_shape_larger_than_the_data=(
        WEIGHTS,
        header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}})
        + bytes(16),
    ),
    weights_offsets_backwards=(
        WEIGHTS,
        header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}}) + bytes(16),
    ),
    weights_offsets_overlap=(
        WEIGHTS,
        header(FIRST | {"b": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}}) + bytes(24),
    ),
    weights_unknown_dtype=(
        WEIGHTS,
        header({"a": {"dtype": "Q7", "shape": [4], "data_offsets": [0, 16]}}) + bytes(16),
    ),
    weights_of_nothing=(WEIGHTS, header({})),
    weights_of_others=(WEIGHTS, header(FIRST) + bytes(16)),
)


@damage
def weights_truncated(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size // 2)


@damage
def weights_missing(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def _first_block(tensors: dict[str, torch.Tensor]) -> str:
    return next(name for name in sorted(tensors) if ".layers.0." in name)


weights(
    nan=lambda tensors: tensors[EMBEDDING][3].fill_(float("nan")),
    infinite=lambda tensors: tensors[_first_block(tensors)].view(-1)[0].fill_(float("inf")),
    too_large_for_float32=lambda tensors: tensors.update(
        {EMBEDDING: tensors[EMBEDDING].double() * 1e300}
    ),
    transposed=lambda tensors: tensors.update({EMBEDDING: tensors[EMBEDDING].T.contiguous()}),
    flat=lambda tensors: tensors.update({EMBEDDING: tensors[EMBEDDING].flatten()}),
    integers=lambda tensors: tensors.update({EMBEDDING: tensors[EMBEDDING].to(torch.int64)}),
    of_a_byte=lambda tensors: tensors.update({EMBEDDING: tensors[EMBEDDING].to(torch.int8)}),
    without_a_tensor=lambda tensors: tensors.pop(_first_block(tensors)),
    without_rows=lambda tensors: tensors.update({EMBEDDING: tensors[EMBEDDING][:0].clone()}),
)


@damage
def weights_pickled(folder: Path) -> None:
    """A pickle that runs code, in place of the weights."""
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(f"cbuiltins\nexec\n(V{TRAP}\ntR.".encode())


@damage
def weights_pointer(folder: Path) -> None:
    """What `git clone` leaves without Git LFS."""
    (folder / WEIGHTS).write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 538090408\n"
    )


@damage
def weights_gguf(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "model-Q4_K_M.gguf").write_bytes(b"GGUF\3\0\0\0")


@damage
def weights_float8(folder: Path) -> None:
    edit_weights(folder, lambda t: t.update({EMBEDDING: t[EMBEDDING].to(torch.float8_e4m3fn)}))


@damage
def weights_pickle_named_safetensors(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(f"cbuiltins\nexec\n(V{TRAP}\ntR.".encode())


@damage
def weights_pickle_beside(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(f"cbuiltins\nexec\n(V{TRAP}\ntR.".encode())


# --- the index of weights in several files --------------------------------------------------------


@damage
def index_lacks_a_shard(folder: Path) -> None:
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


@damage
def index_names_a_file_above(folder: Path) -> None:
    shard(folder, **{EMBEDDING: "../above.safetensors"})
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder.parent / "above.safetensors")


@damage
def index_names_an_absolute_path(folder: Path) -> None:
    shard(folder, **{EMBEDDING: str(folder.parent / "above.safetensors")})
    shutil.copy(folder / "model-00001-of-00002.safetensors", folder.parent / "above.safetensors")


@damage
def index_names_absent_tensors(folder: Path) -> None:
    shard(folder, **{"model.nobody.weight": "model-00001-of-00002.safetensors"})


@damage
def index_names_the_wrong_shard(folder: Path) -> None:
    shard(folder)
    index = json.loads((folder / INDEX).read_text())
    swapped = {"1-of": "2-of", "2-of": "1-of"}
    index["weight_map"] = {
        name: file.replace(file[10:14], swapped[file[10:14]])
        for name, file in index["weight_map"].items()
    }
    (folder / INDEX).write_text(json.dumps(index))
    (folder / "model-00002-of-00002.safetensors").unlink()
    shutil.copy(
        folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors"
    )


@damage
def index_names_a_pickle(folder: Path) -> None:
    shard(folder, **{EMBEDDING: "pytorch_model.bin"})
    (folder / "pytorch_model.bin").write_bytes(f"cbuiltins\nexec\n(V{TRAP}\ntR.".encode())


@damage
def index_maps_to_numbers(folder: Path) -> None:
    shard(folder, **{EMBEDDING: 7})  # type: ignore[arg-type]


@damage
def index_without_a_map(folder: Path) -> None:
    shard(folder)
    (folder / INDEX).write_text("{}")


@damage
def index_deep(folder: Path) -> None:
    shard(folder)
    (folder / INDEX).write_text("[" * 100_000)


# --- config ---------------------------------------------------------------------------------------

contents(
    config_empty=(CONFIG, b""),
    config_null=(CONFIG, b"null"),
    config_list=(CONFIG, b"[]"),
    config_text=(CONFIG, b'"llama"'),
    config_not_utf8=(CONFIG, b'{"model_type": "\xff\xfe"}'),
    config_deep=(CONFIG, b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    config_deep_inside=(
        CONFIG,
        b'{"model_type": "llama", "a": ' + b"[" * 900 + b"]" * 900 + b"}",
    ),
    config_huge_digits=(CONFIG, b'{"model_type": "llama", "num_layers": 1' + b"0" * 9999 + b"}"),
)
configs(
    without_type={"model_type": ...},
    of_unknown_type={"model_type": "quartet_nobody"},
    type_a_number={"model_type": 7},
    of_another_type={"model_type": "gpt2"},
    encoder={"model_type": "bert", "architectures": ["BertForMaskedLM"]},
    encoder_decoder={"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]},
    images={"model_type": "vit", "architectures": ["ViTForImageClassification"]},
    architectures_a_text={"architectures": "LlamaForCausalLM"},
    architectures_numbers={"architectures": [7]},
    architectures_unknown={"architectures": ["NobodyForCausalLM"]},
    billion_layers={"num_hidden_layers": 10**9},
    negative_layers={"num_hidden_layers": -1},
    no_layers={"num_hidden_layers": 0},
    layers_a_text={"num_hidden_layers": "two"},
    width_huge={"hidden_size": 10**6},
    width_beyond_memory={"hidden_size": 2**31 - 1},
    width_zero={"hidden_size": 0},
    width_a_fraction={"hidden_size": 0.5},
    no_heads={"num_attention_heads": 0, "num_key_value_heads": 0},
    heads_that_do_not_divide={"num_attention_heads": 7},
    vocabulary_other={"vocab_size": 77},
    vocabulary_huge={"vocab_size": 2**60},
    vocabulary_negative={"vocab_size": -5},
    context_negative={"max_position_embeddings": -1},
    context_missing={"max_position_embeddings": None},
    context_huge={"max_position_embeddings": 10**18},
    labels_billion={"num_labels": 10**9},
    labels_named_strangely={"id2label": {"x": 1}},
    pad_out_of_range={"pad_token_id": 10**6},
    activation_unknown={"hidden_act": "nobody"},
    activation_a_list={"hidden_act": [1]},
    rope_nonsense={"rope_parameters": {"rope_type": "nobody"}, "rope_scaling": {"type": 7}},
    dtype_unknown={"dtype": "evil", "torch_dtype": "evil"},
    quantised={"quantization_config": {"quant_method": "gptq", "bits": 4}},
    bitsandbytes={"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
    quantised_oddly={"quantization_config": "yes"},
    names_its_weights={"transformers_weights": "../above.safetensors"},
    kernel_of_the_hub={"attn_implementation": "nobody/kernel"},
    private_kernel_of_the_hub={"_attn_implementation": "nobody/kernel:run"},
    dropout_a_text={"attention_dropout": "much"},
    norm_epsilon_a_list={"rms_norm_eps": [1]},
)


@damage
def config_missing(folder: Path) -> None:
    (folder / CONFIG).unlink()


@damage
def code_for_an_unknown_type(folder: Path) -> None:
    """The folder brings Python code that its config wants to be run."""
    (folder / "modeling_trap.py").write_text(TRAP)
    names = {"AutoConfig": "modeling_trap.TrapConfig", "AutoModelForCausalLM": "modeling_trap.Trap"}
    edit(folder, CONFIG, model_type="trap", auto_map=names)


@damage
def code_for_a_known_type(folder: Path) -> None:
    (folder / "modeling_trap.py").write_text(TRAP)
    edit(folder, CONFIG, auto_map={"AutoModelForCausalLM": "modeling_trap.Trap"})


@damage
def code_of_a_tokenizer(folder: Path) -> None:
    (folder / "tokenization_trap.py").write_text(TRAP)
    names = {"AutoTokenizer": [None, "tokenization_trap.TrapTokenizer"]}
    edit(folder, SETTINGS, auto_map=names, tokenizer_class="TrapTokenizer")


@damage
def code_of_another_repository(folder: Path) -> None:
    edit(folder, CONFIG, model_type="trap", auto_map={"AutoConfig": "nobody/trap--code.Trap"})


@damage
def code_that_generates(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(TRAP)


# --- tokenizer, generation, template --------------------------------------------------------------

contents(
    tokenizer_empty=(TOKENIZER, b""),
    tokenizer_object=(TOKENIZER, b"{}"),
    tokenizer_deep=(TOKENIZER, b"[" * 100_000),
    tokenizer_of_unknown_model=(TOKENIZER, b'{"version": "1.0", "model": {"type": "Nobody"}}'),
    tokenizer_config_list=(SETTINGS, b"[]"),
    tokenizer_config_noise=(SETTINGS, b"\xff\x00"),
    tokenizer_config_deep=(SETTINGS, b'{"a":' * 100_000),
    generation_config_list=("generation_config.json", b"[1]"),
    generation_config_noise=("generation_config.json", b"{"),
    generation_config_nonsense=(
        "generation_config.json",
        b'{"temperature": "hot", "num_beams": -3, "max_new_tokens": 1e400, "eos_token_id": "x"}',
    ),
    generation_config_invalid=("generation_config.json", b'{"do_sample": false, "top_k": -1}'),
    template_empty=("chat_template.jinja", b""),
    template_not_utf8=("chat_template.jinja", b"\xff\xfe\x00"),
    template_no_template=("chat_template.jinja", b"{% for %}"),
    template_endless=(
        "chat_template.jinja",
        b"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    ),
    template_of_gigabytes=("chat_template.jinja", b"{{ 'a' * 10 ** 10 }}"),
    template_that_calls_itself=(
        "chat_template.jinja",
        b"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ),
    template_of_megabytes=("chat_template.jinja", b"a" * (2**21)),
)


@damage
def tokenizer_missing(folder: Path) -> None:
    (folder / TOKENIZER).unlink()


@damage
def tokenizer_of_a_gigabyte(folder: Path) -> None:
    os.truncate(folder / TOKENIZER, 2**30)


@damage
def tokenizer_ids_out_of_range(folder: Path) -> None:
    value = json.loads((folder / TOKENIZER).read_text())
    value["model"]["vocab"] = {word: 10**6 + n for word, n in value["model"]["vocab"].items()}
    (folder / TOKENIZER).write_text(json.dumps(value))


@damage
def tokenizer_larger_than_the_embeddings(folder: Path) -> None:
    def cut(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({EMBEDDING: tensors[EMBEDDING][:100].clone()})

    edit_weights(folder, cut)
    edit(folder, CONFIG, vocab_size=100)


@damage
def tokenizer_tokens_of_odd_kinds(folder: Path) -> None:
    edit(folder, SETTINGS, eos_token=7, pad_token=["x"], unk_token={"content": 5})


@damage
def tokenizer_class_of_elsewhere(folder: Path) -> None:
    edit(folder, SETTINGS, tokenizer_class="os.system", tokenizer_file="../above.json")


@damage
def tokenizer_of_many_added_tokens(folder: Path) -> None:
    added = {"content": "<x>", "special": True, "lstrip": False, "rstrip": False}
    edit(folder, SETTINGS, added_tokens_decoder={str(10**12): added, "-1": added, "z": added})


@damage
def template_a_number(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    edit(folder, SETTINGS, chat_template=7)


@damage
def template_a_list(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    edit(folder, SETTINGS, chat_template=[{"name": 1}])


# --- files and folders ----------------------------------------------------------------------------


@damage
def empty_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@damage
def file_for_a_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no folder")


@damage
def nothing_there(folder: Path) -> None:
    shutil.rmtree(folder)


@damage
def adapter_alone(folder: Path) -> None:
    (folder / CONFIG).unlink()
    (folder / WEIGHTS).rename(folder / "adapter_model.safetensors")
    edit(folder, "adapter_config.json", base_model_name_or_path="no/where", peft_type="LORA")


@damage
def adapter_beside_a_model(folder: Path) -> None:
    edit(folder, "adapter_config.json", base_model_name_or_path="../above", peft_type="LORA")


def replaced(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return act


def _link_above(path: Path) -> None:
    above = path.parent.parent / f"above-{path.name}"
    above.write_text("{}")
    path.symlink_to(above)


for _name in (CONFIG, WEIGHTS, TOKENIZER, "chat_template.jinja"):
    _stem = _name.partition(".")[0]
    DAMAGES[f"{_stem}_a_folder"] = replaced(_name, Path.mkdir)
    DAMAGES[f"{_stem}_a_pipe"] = replaced(_name, os.mkfifo)
    DAMAGES[f"{_stem}_a_link_to_itself"] = replaced(_name, lambda path: path.symlink_to(path))
    DAMAGES[f"{_stem}_a_link_outside"] = replaced(_name, _link_above)

DAMAGES["config_a_link_to_a_device"] = replaced(CONFIG, lambda path: path.symlink_to("/dev/zero"))

HARMLESS = {
    "weights_pickle_beside",
    "config_architectures_unknown",
    "config_context_huge",
    "code_for_a_known_type",
    "code_that_generates",
    "generation_config_invalid",
    "tokenizer_class_of_elsewhere",
    "template_empty",
}
"""What these ask for is left out when they are adopted."""
