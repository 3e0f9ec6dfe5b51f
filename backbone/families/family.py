"""What one family of checkpoints says about itself, as data: its settings, and the names of its weights.

A module's name has ``#`` for the number of its layer. Where the backbone has one linear layer for several of
a family's, their rows are joined in order.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

from flatcoat.errors import UsageError

from .head import Head, Task

Array = TypeVar("Array")

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "swiglu": "silu",
    "geglu": "gelu",
}
"""The backbone's activation by the names in circulation."""

_PUBLISHED = {"gelu_tanh": "gelu_pytorch_tanh", "cls": "bos"}
"""Values of fields by the names that config.json has for them."""

_OLD_SUFFIXES = {"gamma": "weight", "beta": "bias"}
"""Of norms converted from TensorFlow."""


class Setting(NamedTuple):
    """A key of config.json, and its value where a config lacks it; None: every config must have it."""

    key: str
    default: Any = None


@dataclass(frozen=True, kw_only=True)
class Family:
    """``settings`` are the fields of the backbone's config that a config.json sets, ``shape`` those that all
    of the family share. ``accepted`` lists, per key, the values that the backbone computes, a missing key
    counting as the first. ``modules`` maps the backbone's modules to the family's; ``prefix`` stands before
    these beneath a head. ``adapt`` derives further fields from a config.json. A config of one of the
    ``model_types`` is of the family if it has the keys ``marks``. ``gates_first``: the second half of what
    the first layer of a gated feed-forward block gives is activated, not the first. ``custom_code``: the
    library is code beside the checkpoints, named in their config.json. ``heads`` are what the family's
    library has for each task.
    """

    name: str
    model_types: tuple[str, ...]
    architecture: str
    prefix: str
    settings: Mapping[str, Setting]
    modules: Mapping[str, str | tuple[str, ...]]
    shape: Mapping[str, Any] = field(default_factory=dict)
    accepted: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    marks: tuple[str, ...] = ()
    gates_first: bool = False
    custom_code: bool = False
    heads: Mapping[Task, Head] = field(default_factory=dict)
    adapt: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda values: {}

    def fields(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of the backbone's config from the content of a config.json, their types unchecked.

        Raises UsageError for a setting that the backbone does not compute.
        """
        for key, accepted in self.accepted.items():
            if values.get(key, accepted[0]) not in accepted:
                raise UsageError(f"{key} is {values[key]!r:.40}: {accepted[0]!r} is supported")
        found: dict[str, Any] = dict(self.shape)
        for name, (key, default) in self.settings.items():
            value = values.get(key)
            found[name] = default if value is None else value
        named = found.get("activation")
        if not isinstance(named, str) or named not in ACTIVATIONS:
            raise UsageError(f"activation {named!r:.40} is not supported: {', '.join(ACTIVATIONS)} are")
        return found | {"activation": ACTIVATIONS[named]} | dict(self.adapt(values))

    def values(self, fields: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
        """The content of a config.json: that of ``before``, but for the settings that ``fields`` change."""
        changed: dict[str, Any] = {}
        was = self.fields(before)
        for name, (key, _) in self.settings.items():
            if name in was and fields[name] != was[name]:
                changed[key] = _PUBLISHED.get(fields[name], fields[name])
        return {"model_type": self.model_types[0]} | dict(before) | changed

    def read(
        self, state: Mapping[str, Array], *, layers: int, join: Callable[[Sequence[Array]], Array]
    ) -> dict[str, Array]:
        """Weights of the encoder under the backbone's names; ``join`` lays rows one below the other."""
        theirs = self.encoder(state)
        found: dict[str, Array] = {}
        for module, names in self.placed(layers).items():
            for suffix in ("weight", "bias"):
                parts = [theirs[f"{name}.{suffix}"] for name in names if f"{name}.{suffix}" in theirs]
                if len(parts) == len(names):
                    found[f"{module}.{suffix}"] = self._ordered(module, parts, join)
        return found

    def rest(self, state: Mapping[str, Array], *, layers: int) -> dict[str, Array]:
        """Weights of the encoder that the backbone has not, such as a pooler's, under their own names."""
        known = {name for names in self.placed(layers).values() for name in names}
        theirs = self.encoder(state).items()
        return {name: tensor for name, tensor in theirs if name.rpartition(".")[0] not in known}

    def write(
        self,
        state: Mapping[str, Array],
        *,
        layers: int,
        heads: Sequence[int],
        join: Callable[[Sequence[Array]], Array],
    ) -> dict[str, Array]:
        """Weights of the encoder, from the backbone's names, under the family's without the ``prefix``.

        ``heads`` are those of queries, keys and values.
        """
        written: dict[str, Array] = {}
        placed = self.placed(layers)
        for name, tensor in state.items():
            module, _, suffix = name.rpartition(".")
            names, whole = placed[module], cast(Any, self._ordered(module, [tensor], join))
            shares = list(heads) if module.endswith("Wqkv") else [1] * len(names)
            rows, start = (len(whole) // sum(shares) if len(names) > 1 else len(whole)), 0
            for named, share in zip(names, shares if len(names) > 1 else [1], strict=True):
                written[f"{named}.{suffix}"] = whole[start : start + share * rows]
                start += share * rows
        return written

    def read_head(self, task: Task, state: Mapping[str, Array], *, tied: bool) -> dict[str, Array]:
        """Weights of the head for a task under the backbone's names, as far as a checkpoint has them.

        ``tied`` is whether the decoder shares the embeddings.
        """
        theirs = _renamed(state)
        found: dict[str, Array] = {}
        for ours, names in self.heads[task].parameters(tied).items():
            spelled = [*names, *(name.removeprefix(self.prefix) for name in names)]
            if (named := next((name for name in spelled if name in theirs), None)) is not None:
                found[ours] = theirs[named]
        return found

    def write_head(self, task: Task, state: Mapping[str, Array], *, tied: bool) -> dict[str, Array]:
        """Weights of the head for a task, from the backbone's names, under the family's."""
        names = self.heads[task].parameters(tied)
        return {names[ours][0]: tensor for ours, tensor in state.items() if ours in names}

    def beside_head(
        self, task: Task, state: Mapping[str, Array], *, layers: int, tied: bool
    ) -> dict[str, Array]:
        """Weights of a checkpoint that neither the backbone nor its head for a task has, such as a pooler's.

        They have the names that they have beneath a head.
        """
        inside = {self.prefix + name: tensor for name, tensor in self.rest(state, layers=layers).items()}
        beneath_head = any(name.startswith(self.prefix) for name in state)
        outside = {
            name: tensor
            for name, tensor in _renamed(state).items()
            if beneath_head and not name.startswith(self.prefix)
        }
        parameters = self.heads[task].parameters(tied).values()
        read = {name for names in parameters for name in (names if tied else names[:1])}
        return {name: tensor for name, tensor in (inside | outside).items() if name not in read}

    def placed(self, layers: int) -> dict[str, tuple[str, ...]]:
        """The modules of a backbone of so many layers, with those of the family that each is made of."""
        found: dict[str, tuple[str, ...]] = {}
        for ours, theirs in self.modules.items():
            names = (theirs,) if isinstance(theirs, str) else theirs
            for number in map(str, range(layers) if "#" in ours else (0,)):
                found[ours.replace("#", number)] = tuple(name.replace("#", number) for name in names)
        return found

    def encoder(self, state: Mapping[str, Array]) -> dict[str, Array]:
        """The weights of the encoder, under its own names: without a head and the prefix beneath one."""
        beneath_head = any(name.startswith(self.prefix) for name in state)
        return {
            name.removeprefix(self.prefix): tensor
            for name, tensor in _renamed(state).items()
            if not beneath_head or name.startswith(self.prefix)
        }

    def _ordered(
        self, module: str, parts: Sequence[Array], join: Callable[[Sequence[Array]], Array]
    ) -> Array:
        """The parts joined, their halves changing places where the family has the gates first."""
        if not (self.gates_first and module.endswith("mlp.Wi")):
            return parts[0] if len(parts) == 1 else join(parts)
        (whole,) = cast(Any, parts)
        return join([whole[len(whole) // 2 :], whole[: len(whole) // 2]])


def _renamed(state: Mapping[str, Array]) -> dict[str, Array]:
    """Weights under the names of today."""
    found = {}
    for name, tensor in state.items():
        module, _, suffix = name.rpartition(".")
        found[".".join(filter(None, (module, _OLD_SUFFIXES.get(suffix, suffix))))] = tensor
    return found


def layers(modules: Mapping[str, str | Sequence[str]], *, inside: str) -> Iterator[tuple[str, Any]]:
    """Entries for ``modules`` of a layer, theirs being ``inside`` a module named with ``#``."""
    for ours, theirs in modules.items():
        if isinstance(theirs, str):
            yield f"layers.#.{ours}", f"{inside}.{theirs}"
        else:
            yield f"layers.#.{ours}", tuple(f"{inside}.{name}" for name in theirs)
