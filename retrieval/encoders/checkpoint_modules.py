"""The modules after the backbone of a checkpoint, and the reading of its settings, each of them checked."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from flatcoat.backbone.weight_files import read_arrays

from .checkpoint_files import Find, read_json

_LIBRARIES = ("sentence_transformers.", "pylate.")
_ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "Identity",
    "torch.nn.modules.activation.Tanh": "Tanh",
}
POOLINGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""Modes in the order in which sentence-transformers names them, and their settings in releases before 6."""

POOLING_ORDER = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""The order in which sentence-transformers concatenates them, and flatcoat."""

SENTENCES, TOKENS = "sentence_embedding", "token_embeddings"
"""What a module reads and writes, as sentence-transformers names it."""


class Unsupported(Exception):
    """A checkpoint that flatcoat does not read; the message says which of its settings is the reason."""


@dataclass(frozen=True)
class Projection:
    """A linear layer of sentence-transformers or PyLate, without residual connections.

    ``weights`` are those of torch's Linear by name, ``activation`` is the name of a torch module.
    """

    weights: dict[str, np.ndarray]
    activation: str

    @property
    def out_features(self) -> int:
        """Width of its vectors."""
        return len(self.weights["linear.weight"])


@dataclass(frozen=True)
class Pooling:
    """One vector per text, the ``modes`` side by side.

    The tokens of a prompt count if ``include_prompt``.
    """

    modes: tuple[str, ...]
    include_prompt: bool
    out_features: int

    def get_pooling_mode_str(self) -> str:
        """The modes as sentence-transformers writes them, such as "cls+mean"."""
        return "+".join(self.modes)


@dataclass(frozen=True)
class Normalize:
    """Vectors of length 1."""


@dataclass(frozen=True)
class ScoredTokens:
    """Which tokens a score counts; of a MultiVectorEncoder, whose settings ``late_settings`` reads."""


Module: TypeAlias = Projection | Pooling | Normalize | ScoredTokens


class ModuleReader:
    """Reads the modules of one checkpoint; ``vectors`` is what they work on, SENTENCES or TOKENS.

    Every method raises Unsupported for what flatcoat's code would compute otherwise than the library.
    """

    def __init__(self, find: Find, vectors: str) -> None:
        self._find = find
        self._vectors = vectors

    def read(self, kind: str, path: str, width: int) -> Module:
        """The module of a class in its folder; ``width`` is that of its input."""
        readers: dict[str, Callable[[str, int], Module]] = {
            "Dense": self._projection,
            "Pooling": self._pooling,
            "Normalize": self._normalize,
        }
        if self._vectors == TOKENS:
            readers["MultiVectorMask"] = lambda path, width: ScoredTokens()
        require(kind in readers, f"it has a module {kind!r:.60}")
        return readers[kind](path, width)

    def _normalize(self, path: str, width: int) -> Normalize:
        if self._find(f"{path}/config.json") is not None:
            self._require_place(settings_in(self._find, f"{path}/config.json"), "normalisation")
        return Normalize()

    def _projection(self, path: str, width: int) -> Projection:
        settings = settings_in(self._find, f"{path}/config.json")
        require(not settings.pop("use_residual", False), "its projection adds its input")
        activation = setting(settings, "activation_function", str)
        require(activation in _ACTIVATIONS, f"the activation of its projection is {activation!r:.60}")
        width_in, width_out = (setting(settings, name) for name in ("in_features", "out_features"))
        bias = setting(settings, "bias", bool)
        known = {"activation_function", "in_features", "out_features", "bias"}
        self._require_place(
            {name: value for name, value in settings.items() if name not in known}, "projection"
        )
        weights = arrays_in(self._find, f"{path}/model.safetensors", as_float32=True)
        shapes = {name: weight.shape for name, weight in weights.items()}
        expected = {"linear.weight": (width_out, width)} | ({"linear.bias": (width_out,)} if bias else {})
        require(
            width_in == width and shapes == expected,
            f"its projection, from {width_in!r:.20} to {width_out!r:.20}, does not fit: {width} come, and "
            f"the weights are {shapes}",
        )
        return Projection(weights, _ACTIVATIONS[activation])

    def _require_place(self, settings: dict[str, Any], what: str) -> None:
        """That a module reads and writes the vectors it should, and has no other settings."""
        place = {"module_input_name": self._vectors, "module_output_name": self._vectors}
        wrong = [name for name, value in settings.items() if name not in place or value != place[name]]
        require(not wrong, f"unknown settings of a {what}: {', '.join(sorted(wrong))}")

    def _pooling(self, path: str, width: int) -> Pooling:
        settings = settings_in(self._find, f"{path}/config.json")
        include_prompt: bool = settings.pop("include_prompt", True)
        # The two names are those of sentence-transformers 6, and of the releases before.
        width_in = settings.pop("embedding_dimension", settings.pop("word_embedding_dimension", None))
        require(width_in == width, f"its pooling takes width {width_in!r:.20}, and {width} come")
        modes = _modes(settings)
        require(bool(modes), "its pooling has no mode")
        return Pooling(modes, include_prompt, width * len(modes))


def _modes(settings: dict[str, Any]) -> tuple[str, ...]:
    """The modes that a pooling names: in one setting, as sentence-transformers 6 writes, or in many."""
    if settings.keys() == {"pooling_mode"}:
        named = settings["pooling_mode"]
        named = [named] if isinstance(named, str) else named
        require(
            isinstance(named, list) and named == [mode for mode in POOLING_ORDER if mode in map(str, named)],
            "its pooling is unknown",
        )
        return tuple(mode for mode in POOLINGS if mode in named)
    require(
        "pooling_mode_mean_tokens" in settings and settings.keys() <= set(POOLINGS.values()),
        "its pooling is unknown",
    )
    return tuple(mode for mode, name in POOLINGS.items() if settings.get(name))


def class_name(module: Any) -> str:
    """The class of an entry of modules.json; Unsupported unless it is a known library's."""
    require(isinstance(module, dict), f"its modules.json holds {module!r:.60}")
    name, path = setting(module, "type", str), setting(module, "path", str)
    require(name.startswith(_LIBRARIES), f"its modules.json names code of its own ({name!r:.60})")
    require(path == Path(path).name, f"its modules.json names the folder {path!r:.60}")
    return name.rpartition(".")[2]


def settings_in(find: Find, name: str) -> dict[str, Any]:
    """The JSON object of a file; Unsupported without it."""
    return read_json(present(find, name), dict)


def setting(settings: dict[str, Any], name: str, kind: Any = object) -> Any:
    """The value of a setting; Unsupported if it is missing or of another type."""
    require(name in settings, f"it lacks the setting {name!r}")
    require(isinstance(settings[name], kind), f"its {name} is {settings[name]!r:.60}")
    return settings[name]


def present(find: Find, name: str) -> Path:
    """A file of the checkpoint; Unsupported without it."""
    file = find(name)
    if file is None:
        raise Unsupported(f"it has no {name}")
    return file


def arrays_in(find: Find, name: str, *, as_float32: bool) -> dict[str, np.ndarray]:
    """The tensors of a file; Unsupported for one larger than memory, which a sparse file may claim to be."""
    weights = present(find, name)
    require(_fits(weights), "its weights are larger than this machine's memory")
    return read_arrays(weights, as_float32=as_float32)


def require(condition: bool, otherwise: str) -> None:
    """Raise Unsupported with the reason unless the condition holds."""
    if not condition:
        raise Unsupported(otherwise)


def strings(values: Sequence[Any], what: str) -> list[str]:
    """A list of strings; Unsupported for anything else."""
    require(isinstance(values, list) and all(isinstance(word, str) for word in values), what)
    return list(values)


def _fits(file: Path) -> bool:
    if not hasattr(os, "sysconf"):
        return True
    return file.stat().st_size <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
