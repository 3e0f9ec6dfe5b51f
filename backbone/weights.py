"""Hugging Face checkpoints in and out: ``config.json`` and ``model.safetensors``, from folders or the hub."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from flatcoat.atomic_files import readable_weights
from flatcoat.errors import DataError
from flatcoat.hub import download_model

from .config import ModernBertConfig
from .families.head import Task
from .weight_files import ENCODER_PREFIX, FLOAT_FILE, INT8_FILE, read_arrays, under_head, without_head

Model = TypeVar("Model", bound=nn.Module)


def save(
    model: nn.Module,
    folder: str | Path,
    *,
    config: ModernBertConfig,
    architecture: str,
    rest: dict[str, Tensor] | None = None,
    task: Task | None = None,
) -> None:
    """Write a checkpoint that transformers loads as its class ``architecture``, without a tied decoder.

    ``rest`` are weights beside the model's, by their names in a family's files. ``task`` is that of its head.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not (config.tie_word_embeddings and name == "decoder.weight")
    }
    state = published(state, config, task) | (rest or {})
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    values = _hf_values(config, architecture, next(model.parameters()).dtype)
    (folder / "config.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    readable_weights(folder)


def read_checkpoint(name_or_path: str | Path) -> tuple[ModernBertConfig, dict[str, Tensor]]:
    """Config and tensors of a checkpoint, sharded or whole, by their names on disk.

    Raises NotFoundError where there is no such folder or model on the hub, DataError where it is damaged.
    """
    folder = _folder(name_or_path)
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise DataError(f"{name_or_path} has no config.json: a Hugging Face checkpoint is needed")
    config = ModernBertConfig.from_hf(_read_json(config_file))
    state: dict[str, Tensor] = {}
    for file in _weight_files(folder, name_or_path):
        state |= _read_tensors(file)
    return config, state


def published(
    state: dict[str, Tensor], config: ModernBertConfig, task: Task | None = None
) -> dict[str, Tensor]:
    """Weights of an encoder, or of one beneath the head for a task, under the names of its own library."""
    family = config.published
    if family is None:
        return state
    sizes: dict[str, Any] = {"layers": config.layer_count, "heads": config.head_counts}
    if task is None:
        return family.write(state, join=_joined, **sizes)
    encoder = family.write(without_head(state), join=_joined, **sizes)
    head = family.write_head(task, state, tied=config.tie_word_embeddings)
    return {family.prefix + name: tensor for name, tensor in encoder.items()} | head


def encoder_weights(config: ModernBertConfig, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the encoder among a checkpoint's, under the backbone's names."""
    if config.published is None:
        return without_head(state)
    return config.published.read(state, layers=config.layer_count, join=_joined)


def weights_for(config: ModernBertConfig, state: dict[str, Tensor], task: Task) -> dict[str, Tensor]:
    """The weights of a checkpoint's encoder and of its head for a task, under the backbone's names.

    Those of the head are left out where the checkpoint has none.
    """
    if config.published is None:
        return under_head(state)
    encoder = {ENCODER_PREFIX + name: tensor for name, tensor in encoder_weights(config, state).items()}
    return encoder | config.published.read_head(task, state, tied=config.tie_word_embeddings)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts))


def _weight_files(folder: Path, name: str | Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    for whole in (folder / FLOAT_FILE, folder / INT8_FILE):
        if whole.is_file():
            return [whole]
    if not index.is_file():
        raise DataError(f"{name} has no model.safetensors: save the checkpoint with safetensors")
    named = _read_json(index).get("weight_map", {})
    shards = [folder / shard for shard in sorted(set(map(str, named.values())))]
    if outside := [shard for shard in shards if shard.parent != folder]:
        raise DataError(f"{index} names {outside[0]}: the files beside it are possible")
    for shard in shards:
        if not shard.is_file():
            raise DataError(f"{name} lacks {shard.name}, which {index.name} names: copy it there")
    return shards


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f"{file} holds {type(values).__name__} where a JSON object is wanted")
    return values


def _read_tensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if file.name == INT8_FILE:
        return {name: torch.from_numpy(array) for name, array in read_arrays(file, as_float32=True).items()}
    try:
        return load_file(file)
    except SafetensorError as error:
        raise DataError(f"{file} cannot be read as safetensors, copy it again: {error}") from None


def _folder(name_or_path: str | Path) -> Path:
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    return download_model(str(name_or_path), ["*.json", "*.safetensors"])


def _hf_values(config: ModernBertConfig, architecture: str, dtype: torch.dtype) -> dict[str, Any]:
    values = config.to_hf()
    # The older name of dtype, with the value of the checkpoint that was loaded.
    values.pop("torch_dtype", None)
    return values | {"architectures": [architecture], "dtype": str(dtype).removeprefix("torch.")}


def require_layers(config: ModernBertConfig, state: dict[str, Tensor], *, name: str | Path) -> None:
    """Raise DataError, before layers are built, for more layers than the checkpoint has weights."""
    if config.num_hidden_layers > len(state):
        raise DataError(
            f"{name}: its config asks for {config.num_hidden_layers} layers, and it has {len(state)} weights"
        )


def fill(model: Model, state: dict[str, Tensor], *, name: str | Path, dtype: torch.dtype | None) -> Model:
    """Give a model without data the weights of the checkpoint ``name``, and evaluation mode.

    Weights keep the dtype they were saved in unless ``dtype`` says otherwise. Raises DataError where
    weights are missing or of another shape.
    """
    expected = model.state_dict()
    missing = sorted(set(expected) - set(state))
    if missing:
        raise DataError(
            f"{name} lacks {len(missing)} weights that its config names, first {', '.join(missing[:3])}"
        )
    for key, tensor in expected.items():
        if state[key].shape != tensor.shape:
            raise DataError(
                f"{name}: {key} has shape {tuple(state[key].shape)}, "
                f"its config asks for {tuple(tensor.shape)}"
            )
    model.load_state_dict({key: state[key] for key in expected}, assign=True)
    return (model.to(dtype) if dtype is not None else model).eval()


@contextmanager
def init_empty_weights() -> Iterator[None]:
    """Build modules on the meta device, without memory, and skip their initialisers.

    On the meta device torch's initialisers still import ``torch._dynamo``, which takes two seconds.

    >>> with init_empty_weights():
    ...     nn.Linear(2, 3).weight.device
    device(type='meta')
    """
    with torch.device("meta"), _SkipInitialisers():
        yield


class _SkipInitialisers(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else options["tensor"]
        return func(*args, **options)
