"""Hugging Face checkpoints in and out: ``config.json`` and ``model.safetensors``, from folders or the hub."""

import json
import re
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .. import FlatcoatError
from .classification import Classifier, SequenceClassifier, TokenClassifier, classifier_layer, with_labels
from .config import ModernBertConfig
from .heads import MaskedLanguageModel, prediction_head
from .model import ModernBert
from .weightless import weightless

Model = TypeVar("Model", bound=nn.Module)
ClassifierKind = TypeVar("ClassifierKind", bound=Classifier)
Savable = ModernBert | MaskedLanguageModel | Classifier
_PREFIX = "model."
_HEAD = re.compile(r"^(head|decoder|classifier)\.")
_EMBEDDINGS = "model.embeddings.tok_embeddings.weight"
_ARCHITECTURES: dict[type[nn.Module], str] = {
    ModernBert: "ModernBertModel",
    MaskedLanguageModel: "ModernBertForMaskedLM",
    SequenceClassifier: "ModernBertForSequenceClassification",
    TokenClassifier: "ModernBertForTokenClassification",
}


def load_encoder(name_or_path: str | Path, dtype: torch.dtype | None = None) -> ModernBert:
    """The encoder of a checkpoint; a head's weights are left aside.

    Weights keep the dtype they were saved in unless ``dtype`` says otherwise; the model comes in evaluation
    mode. Raises FlatcoatError where the checkpoint is missing, of another kind, damaged, or lacks weights.
    """
    config, state = read_checkpoint(name_or_path)
    encoder = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if not _HEAD.match(name)}
    _require_layers(config, encoder, name_or_path)
    with weightless():
        model = ModernBert(config)
    return _fill(model, encoder, name_or_path, dtype)


def load_masked_lm(name_or_path: str | Path, dtype: torch.dtype | None = None) -> MaskedLanguageModel:
    """A checkpoint with its masked-language-model head. Raises as ``load_encoder`` does."""
    config, state = read_checkpoint(name_or_path)
    state = _prefixed(state)
    _require_layers(config, state, name_or_path)
    with weightless():
        model = MaskedLanguageModel(config)
    if config.tie_word_embeddings and _EMBEDDINGS in state:
        state["decoder.weight"] = state[_EMBEDDINGS]
    model = _fill(model, state, name_or_path, dtype)
    if config.tie_word_embeddings:
        model.decoder.weight = model.model.embeddings.tok_embeddings.weight
    return model


def load_classifier(
    kind: type[ClassifierKind],
    name_or_path: str | Path,
    dtype: torch.dtype | None = None,
    num_labels: int | None = None,
) -> ClassifierKind:
    """A classifier as it was saved, or with ``num_labels`` a new one on a checkpoint.

    Raises as ``load_encoder`` does, and where there is no classifier and ``num_labels`` is not given.
    """
    config, state = read_checkpoint(name_or_path)
    state = _prefixed(state)
    if num_labels is None and "classifier.weight" not in state:
        raise FlatcoatError(f"{name_or_path} has no classifier: give num_labels to start one on its encoder")
    if num_labels is not None:
        config = with_labels(config, num_labels)
        state = _new_classifier(config, state)
    _require_layers(config, state, name_or_path)
    with weightless():
        model = kind(config)
    return _fill(model, state, name_or_path, dtype)


def save(model: Savable, folder: str | Path) -> None:
    """Write what transformers loads as the class of the same task; a tied decoder is left out."""
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tied = model.config.tie_word_embeddings
    state = {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name == "decoder.weight")
    }
    (folder / "config.json").write_text(json.dumps(_hf_values(model), indent=2, sort_keys=True) + "\n")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def read_checkpoint(name_or_path: str | Path) -> tuple[ModernBertConfig, dict[str, Tensor]]:
    """Config and tensors of a checkpoint, sharded or whole, by their names on disk."""
    folder = _folder(name_or_path)
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise FlatcoatError(f"{name_or_path} has no config.json: a Hugging Face checkpoint is needed")
    config = ModernBertConfig.from_hf(_read_json(config_file))
    state: dict[str, Tensor] = {}
    for file in _weight_files(folder, name_or_path):
        state |= _read_tensors(file)
    return config, state


def _weight_files(folder: Path, name: str | Path) -> list[Path]:
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise FlatcoatError(f"{name} has no model.safetensors: save the checkpoint with safetensors")
    named = _read_json(index).get("weight_map", {})
    shards = [folder / shard for shard in sorted(set(map(str, named.values())))]
    if outside := [shard for shard in shards if shard.parent != folder]:
        raise FlatcoatError(f"{index} names {outside[0]}: the files beside it are possible")
    for shard in shards:
        if not shard.is_file():
            raise FlatcoatError(f"{name} lacks {shard.name}, which {index.name} names: copy it there")
    return shards


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FlatcoatError(f"{file} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise FlatcoatError(f"{file} holds {type(values).__name__} where a JSON object is wanted")
    return values


def _read_tensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise FlatcoatError(f"{file} cannot be read as safetensors, copy it again: {error}") from None


def _folder(name_or_path: str | Path) -> Path:
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(str(name_or_path), allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, HFValidationError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FlatcoatError(f"{name_or_path} is neither a folder nor a model on the hub: {reason}") from None


def _prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Encoder weights under the names that they have beneath a head."""
    return {
        name if name.startswith(_PREFIX) or _HEAD.match(name) else _PREFIX + name: tensor
        for name, tensor in state.items()
    }


def _new_classifier(config: ModernBertConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint's encoder and head, and what a classifier needs beyond them drawn anew."""
    dtype = state[_EMBEDDINGS].dtype if _EMBEDDINGS in state else None
    parts = {"head": prediction_head(config), "classifier": classifier_layer(config)}
    drawn = {
        f"{part}.{name}": tensor
        for part, module in parts.items()
        for name, tensor in module.to(dtype).state_dict().items()
    }
    return drawn | {name: tensor for name, tensor in state.items() if name.startswith((_PREFIX, "head."))}


def _hf_values(model: Savable) -> dict[str, Any]:
    values = model.config.to_hf()
    # The older name of dtype: what it said was true of the checkpoint that was loaded.
    values.pop("torch_dtype", None)
    return values | {
        "architectures": [next(name for kind, name in _ARCHITECTURES.items() if isinstance(model, kind))],
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
    }


def _require_layers(config: ModernBertConfig, state: dict[str, Tensor], name: str | Path) -> None:
    """Before they are built: a config may say any number."""
    if config.num_hidden_layers > len(state):
        raise FlatcoatError(
            f"{name}: its config asks for {config.num_hidden_layers} layers, and it has {len(state)} weights"
        )


def _fill(model: Model, state: dict[str, Tensor], name: str | Path, dtype: torch.dtype | None) -> Model:
    expected = model.state_dict()
    missing = sorted(set(expected) - set(state))
    if missing:
        raise FlatcoatError(
            f"{name} lacks {len(missing)} weights that its config names, first {', '.join(missing[:3])}"
        )
    for key, tensor in expected.items():
        if state[key].shape != tensor.shape:
            raise FlatcoatError(
                f"{name}: {key} has shape {tuple(state[key].shape)}, "
                f"its config asks for {tuple(tensor.shape)}"
            )
    model.load_state_dict({key: state[key] for key in expected}, assign=True)
    return (model.to(dtype) if dtype is not None else model).eval()
