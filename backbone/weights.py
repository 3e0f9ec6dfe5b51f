"""Hugging Face checkpoints in and out: ``config.json`` and ``model.safetensors``, from folders or the hub."""

import json
import re
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from .. import FlatcoatError
from .config import ModernBertConfig
from .heads import MaskedLanguageModel
from .model import ModernBert

_PREFIX = "model."
Model = TypeVar("Model", bound=nn.Module)
_HEAD = re.compile(r"^(head|decoder|classifier)\.")


def load_encoder(name_or_path: str | Path, dtype: torch.dtype | None = None) -> ModernBert:
    """The encoder of a checkpoint; a head's weights are left aside.

    Weights keep the dtype they were saved in unless ``dtype`` says otherwise. Raises FlatcoatError where the
    checkpoint is missing, of another kind, or lacks weights.
    """
    config, state = read_checkpoint(name_or_path)
    encoder = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if not _HEAD.match(name)}
    with torch.device("meta"):
        model = ModernBert(config)
    return _fill(model, encoder, name_or_path, dtype)


def load_masked_lm(name_or_path: str | Path, dtype: torch.dtype | None = None) -> MaskedLanguageModel:
    """A checkpoint with its masked-language-model head. Raises as ``load_encoder`` does."""
    config, state = read_checkpoint(name_or_path)
    embeddings = state.get("model.embeddings.tok_embeddings.weight")
    if embeddings is not None:
        state["decoder.weight"] = embeddings
    with torch.device("meta"):
        model = MaskedLanguageModel(config)
    model = _fill(model, state, name_or_path, dtype)
    model.decoder.weight = model.model.embeddings.tok_embeddings.weight
    return model


def save(model: ModernBert | MaskedLanguageModel, folder: str | Path) -> None:
    """Write what transformers' ``ModernBertModel`` or ``ModernBertForMaskedLM`` loads, the decoder tied."""
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    masked = isinstance(model, MaskedLanguageModel)
    state = {
        name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "decoder.weight"
    }
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    values = model.config.to_hf() | {
        "architectures": ["ModernBertForMaskedLM" if masked else "ModernBertModel"],
        "dtype": dtype,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def read_checkpoint(name_or_path: str | Path) -> tuple[ModernBertConfig, dict[str, Tensor]]:
    """Config and tensors of a checkpoint, sharded or whole, by their names on disk."""
    from safetensors.torch import load_file

    folder = _folder(name_or_path)
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise FlatcoatError(f"{name_or_path} has no config.json: a Hugging Face checkpoint is needed")
    try:
        values = json.loads(config_file.read_text())
    except ValueError as error:
        raise FlatcoatError(f"{config_file} is not JSON: {error}") from None
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise FlatcoatError(f"{name_or_path} has no model.safetensors: save the checkpoint with safetensors")
    state: dict[str, Tensor] = {}
    for file in files:
        state |= load_file(file)
    return ModernBertConfig.from_hf(values), state


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


def _fill(model: Model, state: dict[str, Tensor], name: str | Path, dtype: torch.dtype | None) -> Model:
    expected = model.state_dict()
    missing = sorted(set(expected) - set(state))
    if missing:
        raise FlatcoatError(f"{name} lacks {len(missing)} weights that its config names, first {missing[0]}")
    for key, tensor in expected.items():
        if state[key].shape != tensor.shape:
            raise FlatcoatError(
                f"{name}: {key} has shape {tuple(state[key].shape)}, "
                f"its config asks for {tuple(tensor.shape)}"
            )
    model.load_state_dict({key: state[key] for key in expected}, assign=True)
    return model.to(dtype) if dtype is not None else model
