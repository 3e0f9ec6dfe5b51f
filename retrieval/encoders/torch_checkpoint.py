"""A checkpoint read by ``checkpoint`` as torch modules, for documents and for batches of queries."""

import logging

import torch
from torch import Tensor, nn

from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.weights import fill, init_empty_weights
from flatcoat.errors import FlatcoatError

from .checkpoint import Checkpoint, read_checkpoint
from .checkpoint_files import Find
from .checkpoint_modules import Module, Normalize, Projection, Unsupported

logger = logging.getLogger(__name__)


def try_load_checkpoint(find: Find, late: bool, *, device: str | None = None) -> "TorchCheckpoint | None":
    """A checkpoint with the same vectors as by its own library, or None: then that library must load it.

    The reason for None is logged (debug).
    """
    if device is None and torch.backends.mps.is_available():
        logger.debug("a checkpoint is left to its own library: it chooses Apple's GPU")
        return None
    try:
        return load_checkpoint(find, late, device=device)
    except Unsupported as reason:
        logger.debug("a checkpoint is left to its own library: %s", reason)
        return None


def load_checkpoint(find: Find, late: bool, *, device: str | None = None) -> "TorchCheckpoint":
    """The same from untrusted files, as ``read_checkpoint`` reads them, and raising as it does."""
    files = read_checkpoint(find, late)
    try:
        return TorchCheckpoint(files).to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    except (FlatcoatError, RuntimeError) as error:  # RuntimeError is torch's, for devices.
        raise Unsupported(f"{type(error).__name__}: {error}") from error


class TorchCheckpoint(nn.Sequential):
    """The backbone and the modules after it, their weights named as sentence-transformers names them.

    They share the memory of the checkpoint's ``files`` on a CPU.

    >>> from flatcoat.retrieval.encoders.load import SHIPPED_MODEL, in_folder
    >>> len(TorchCheckpoint(read_checkpoint(in_folder(SHIPPED_MODEL), late=True)))
    2
    """

    def __init__(self, files: Checkpoint) -> None:
        super().__init__(_Backbone(files), *map(_module, files.after))
        self.files = files

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


class _Backbone(nn.Module):
    def __init__(self, files: Checkpoint) -> None:
        super().__init__()
        state = {name: torch.from_numpy(array) for name, array in files.backbone.weights.items()}
        with init_empty_weights():
            model = ModernBert(files.config)
        self.auto_model: ModernBert = fill(model, state, name=files.folder, dtype=None)


class _Dense(nn.Module):
    def __init__(self, projection: Projection) -> None:
        super().__init__()
        width_out, width_in = projection.weights["linear.weight"].shape
        with init_empty_weights():
            self.linear = nn.Linear(width_in, width_out, bias="linear.bias" in projection.weights)
        self.activation_function: nn.Module = getattr(nn, projection.activation)()
        state = {name: torch.from_numpy(array) for name, array in projection.weights.items()}
        self.load_state_dict(state, assign=True)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        (name,) = features
        return {name: self.activation_function(self.linear(features[name]))}


class _Normalize(nn.Module):
    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: nn.functional.normalize(vectors_ND, dim=-1) for name, vectors_ND in features.items()}


def _module(module: Module) -> nn.Module:
    """An identity in place of what is done over packed batches: pooling, and leaving out skiplist tokens."""
    if isinstance(module, Projection):
        return _Dense(module)
    return _Normalize() if isinstance(module, Normalize) else nn.Identity()
