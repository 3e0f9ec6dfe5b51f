"""The shape of an encoder, ModernBERT's or another's, read from and written to ``config.json``.

Source: arXiv 2412.13663 and the published checkpoints. Two spellings of the attention pattern and of the
rotary bases are in circulation; both are read, and both are written so that every release loads them.
The paper's ablations (FlexBERT), which no transformers class computes, are written in a spelling of our own.
The settings of other encoders are read and written as ``families`` says.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from flatcoat.errors import DataError, UsageError

from .families.family import Family
from .families.known import FAMILIES, family_of

LayerType = Literal["global", "local"]
_HF_LAYER_TYPES: dict[str, LayerType] = {"full_attention": "global", "sliding_attention": "local"}
_HF_NAMES = {name: hf for hf, name in _HF_LAYER_TYPES.items()}

Positions = Literal["rope", "absolute", "alibi", "none"]
NormPosition = Literal["pre", "post"]
NormKind = Literal["layernorm", "rmsnorm"]
MlpKind = Literal["glu", "mlp"]
ActivationName = Literal["gelu", "gelu_tanh", "relu", "silu"]
Pooling = Literal["cls", "mean", "late"]
_OPTIONS: dict[str, tuple[str, ...]] = {
    "positions": get_args(Positions),
    "norm_position": get_args(NormPosition),
    "norm_kind": get_args(NormKind),
    "mlp_kind": get_args(MlpKind),
    "activation": get_args(ActivationName),
}
_CLASSIFIER_OPTIONS: dict[str, tuple[str, ...]] = {
    "classifier_pooling": get_args(Pooling),
    "classifier_activation": get_args(ActivationName),
}
_HF_ACTIVATIONS: dict[str, ActivationName] = {
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}
_HF_ACTIVATION_NAMES = {name: hf for hf, name in _HF_ACTIVATIONS.items()}
_MODERNBERT: dict[str, Any] = {
    "positions": "rope",
    "norm_position": "pre",
    "norm_kind": "layernorm",
    "mlp_kind": "glu",
    "type_vocab_size": 0,
    "position_offset": 0,
    "embedding_size": 0,
    "relative_buckets": 0,
    "layer_order": (),
    "mlp_out_dropout": 0.0,
    "attention_weights_dropout": 0.0,
    "mlp_out_bias": None,
    "rope_scale": 1.0,
    "embedding_norm": True,
    "key_value_heads": 0,
    "family": "",
}
"""The fields that are the same in every ModernBERT, which its config.json therefore lacks."""

_HF_ONLY = {"model_type", "hidden_activation", "rope_parameters", "global_attn_every_n_layers"}
"""Keys that are translated, and so not kept in ``extra``: they would contradict fields changed later."""

_LARGEST = {
    "vocab_size": 1 << 24,
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 19,
    "num_hidden_layers": 1 << 10,
    "num_attention_heads": 1 << 12,
    "max_position_embeddings": 1 << 24,
    "local_attention": 1 << 24,
    "global_attn_every_n_layers": 1 << 10,
}
"""Sizes far above any encoder's: larger values are mistakes."""

FLEXBERT = "flatcoat-flexbert"
"""``model_type`` of a shape that transformers' ModernBERT does not compute: transformers refuses it."""


@dataclass(frozen=True, kw_only=True)
class ModernBertConfig:
    """Defaults are ModernBERT-base. ``layer_types`` left empty repeats global, local, local.

    ``local_attention`` counts the tokens of a local window on both sides together (128: 64 each way).
    ``positions`` "absolute" learns ``max_position_embeddings`` vectors, "alibi" lowers scores by distance;
    ``norm_position`` "post" is BERT's; ``activation`` "gelu_tanh" is gelu's approximation by a tanh.
    ``type_vocab_size`` vectors tell the parts of a text apart (BERT); ``position_offset`` learned vectors
    stand before that of the first token, the last of them padding's (RoBERTa). Tokens have
    ``embedding_size`` components before a projection to ``hidden_size`` (0: none). ``relative_buckets``
    learned biases of scores go by distance (MPNet). ``layer_order`` numbers the layer that computes each
    step (ALBERT; empty: its own). ``mlp_out_bias`` is that of the second layer of a feed-forward block
    (None: ``mlp_bias``). ``rope_scale`` multiplies rotary angles (GTE). Without ``embedding_norm`` the first
    layer has a norm before attention. ``key_value_heads``, where fewer (0: all), serve several heads of
    queries each (EuroBERT). ``classifier_pooling`` "late" averages the logits of tokens (EuroBERT).
    ``family`` names the encoder whose files are read and written ("": ModernBERT).
    ``extra`` keeps the other keys of a ``config.json``, of a family all keys; comparisons ignore it.
    Raises UsageError where values are unknown or do not fit together.

    >>> config = ModernBertConfig(num_hidden_layers=4)
    >>> config.layer_types, config.head_width
    (('global', 'local', 'local', 'global'), 64)
    """

    vocab_size: int = 50368
    hidden_size: int = 768
    intermediate_size: int = 1152
    num_hidden_layers: int = 22
    num_attention_heads: int = 12
    max_position_embeddings: int = 8192
    layer_types: tuple[LayerType, ...] = ()
    local_attention: int = 128
    global_rope_theta: float = 160_000.0
    local_rope_theta: float = 10_000.0
    positions: Positions = "rope"
    norm_position: NormPosition = "pre"
    norm_kind: NormKind = "layernorm"
    mlp_kind: MlpKind = "glu"
    activation: ActivationName = "gelu"
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    decoder_bias: bool = True
    tie_word_embeddings: bool = True
    classifier_pooling: Pooling = "cls"
    classifier_activation: ActivationName = "gelu"
    classifier_bias: bool = False
    classifier_dropout: float = 0.0
    attention_dropout: float = 0.0
    embedding_dropout: float = 0.0
    mlp_dropout: float = 0.0
    mlp_out_dropout: float = 0.0
    attention_weights_dropout: float = 0.0
    type_vocab_size: int = 0
    position_offset: int = 0
    embedding_size: int = 0
    relative_buckets: int = 0
    layer_order: tuple[int, ...] = ()
    mlp_out_bias: bool | None = None
    rope_scale: float = 1.0
    embedding_norm: bool = True
    key_value_heads: int = 0
    family: str = ""
    initializer_range: float = 0.02
    pad_token_id: int = 50283
    bos_token_id: int = 50281
    eos_token_id: int = 50282
    cls_token_id: int = 50281
    sep_token_id: int = 50282
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        self._check_options()
        _check_sizes(vars(self))
        if self.hidden_size % self.num_attention_heads:
            raise UsageError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                f"{self.num_attention_heads}"
            )
        if self.key_value_heads and self.num_attention_heads % self.key_value_heads:
            raise UsageError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of key_value_heads "
                f"{self.key_value_heads}"
            )
        if self.positions == "rope" and self.head_width % 2:
            raise UsageError(f"head width {self.head_width} is odd: rotary positions need an even one")
        if not self.layer_types:
            pattern: tuple[LayerType, ...] = tuple(
                "local" if layer % 3 else "global" for layer in range(self.num_hidden_layers)
            )
            object.__setattr__(self, "layer_types", pattern)
        self._check_layers()

    def _check_layers(self) -> None:
        if len(self.layer_types) != self.num_hidden_layers:
            raise UsageError(
                f"layer_types names {len(self.layer_types)} layers, num_hidden_layers is "
                f"{self.num_hidden_layers}"
            )
        if self.layer_order:
            known = range(self.num_hidden_layers)
            if len(self.layer_order) != len(known) or any(step not in known for step in self.layer_order):
                raise UsageError(
                    f"layer_order is {self.layer_order!r:.40}: {len(known)} numbers of layers are wanted"
                )

    def _check_options(self) -> None:
        for name, known in (_OPTIONS | _CLASSIFIER_OPTIONS).items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} is {getattr(self, name)!r}: known are {', '.join(known)}")
        if unknown := set(self.layer_types) - set(_HF_NAMES):
            raise UsageError(f"layer_types holds {min(unknown)!r}: known are {sorted(_HF_NAMES)}")
        if self.norm_kind == "rmsnorm" and self.norm_bias:
            raise UsageError("norm_bias is True, but rmsnorm has no bias: set norm_bias to False")
        if self.positions == "absolute" and self.longest < 1:
            raise UsageError(
                f"max_position_embeddings is {self.max_position_embeddings}: "
                f"absolute positions need at least {self.position_offset + 1}"
            )
        if self.family and self.family not in FAMILIES:
            raise UsageError(f"family is {self.family!r}: known are {', '.join(FAMILIES)}")

    @property
    def head_width(self) -> int:
        """Components of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that has positions."""
        return self.max_position_embeddings - self.position_offset

    @property
    def head_counts(self) -> tuple[int, int, int]:
        """Heads of queries, keys and values."""
        shared = self.key_value_heads or self.num_attention_heads
        return self.num_attention_heads, shared, shared

    @property
    def has_out_bias(self) -> bool:
        """Whether the second layer of a feed-forward block has a bias."""
        return self.mlp_bias if self.mlp_out_bias is None else self.mlp_out_bias

    @property
    def steps(self) -> tuple[int, ...]:
        """The number of the layer that computes each step."""
        return self.layer_order or tuple(range(self.num_hidden_layers))

    @property
    def layer_count(self) -> int:
        """Layers with weights of their own."""
        return max(self.steps, default=-1) + 1

    @property
    def published(self) -> Family | None:
        """How the family's files spell weights and settings; None for ModernBERT's own."""
        return FAMILIES.get(self.family)

    @property
    def is_modernbert(self) -> bool:
        """Whether this is a shape that transformers' ModernBERT computes: none of the paper's ablations."""
        same = all(getattr(self, name) == value for name, value in _MODERNBERT.items())
        return same and self.classifier_pooling != "late"

    @property
    def rope_thetas(self) -> dict[LayerType, float]:
        """The base of the rotary angles per type of layer."""
        return {"global": self.global_rope_theta, "local": self.local_rope_theta}

    def window(self, layer: int) -> int | None:
        """The tokens on each side that the tokens of a local layer attend to; None for a global one."""
        return self.local_attention // 2 if self.layer_types[layer] == "local" else None

    @staticmethod
    def from_hf(values: Mapping[str, Any]) -> "ModernBertConfig":
        """Read the content of a ``config.json``: ModernBERT's in either spelling, a family's, or our own.

        Raises DataError for another model type, an unknown activation, scaled rotary positions, and values
        that do not fit together.
        """
        try:
            return _from_hf(values)
        except UsageError as error:  # The values are a file's, not an argument's.
            raise DataError(str(error)) from None

    def to_hf(self) -> dict[str, Any]:
        """The content of a ``config.json``.

        A shape that transformers' ModernBERT computes is written for transformers, in the older spelling too
        where that can express it. Any other shape has flatcoat's own names, and a model type and layer types
        that transformers refuses.
        """
        own = asdict(self)
        extra = own.pop("extra")
        types = own.pop("layer_types")
        if self.published is not None:
            return self.published.values(own, extra)
        if not self.is_modernbert:
            return extra | own | {"model_type": FLEXBERT, "layer_types": list(types)}
        thetas = self.rope_thetas
        values = extra | {name: value for name, value in own.items() if name not in _MODERNBERT | _OPTIONS}
        values |= {
            "model_type": "modernbert",
            "hidden_activation": _HF_ACTIVATION_NAMES[self.activation],
            "classifier_activation": _HF_ACTIVATION_NAMES[self.classifier_activation],
            "layer_types": [_HF_NAMES[name] for name in types],
            "rope_parameters": {
                hf: {"rope_type": "default", "rope_theta": thetas[name]}
                for hf, name in _HF_LAYER_TYPES.items()
            },
        }
        period = next(
            (every for every in range(1, len(types) + 1) if types == _every(every, len(types))), None
        )
        return values if period is None else values | {"global_attn_every_n_layers": period}


def _from_hf(values: Mapping[str, Any]) -> ModernBertConfig:
    if (family := family_of(values)) is not None:
        return _of_family(family, values)
    model_type = values.get("model_type")
    if model_type not in ("modernbert", FLEXBERT):
        names = ", ".join(("modernbert", *FAMILIES))
        raise UsageError(f"model_type is {model_type!r:.40}: known are {names}")
    _check_types(values)
    _check_sizes(values)
    own = values if model_type == FLEXBERT else _own_spelling(values)
    names = {field.name for field in fields(ModernBertConfig)} - {"extra"}
    known = {name: own[name] for name in names if own.get(name) is not None}
    for name in ("layer_types", "layer_order"):
        known[name] = tuple(known.get(name, ()))
    extra = {name: value for name, value in values.items() if name not in names | _HF_ONLY}
    return ModernBertConfig(**known, extra=extra)


_JSON_TYPES: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    bool: (bool,),
    bool | None: (bool, type(None)),
}


def _of_family(family: Family, values: Mapping[str, Any]) -> ModernBertConfig:
    """The config of a family's checkpoint, each value of the JSON type that its field has."""
    found = family.fields(values)
    kinds = {field.name: field.type for field in fields(ModernBertConfig)}
    for name, value in found.items():
        allowed = _JSON_TYPES.get(kinds[name])
        if allowed is not None and type(value) not in allowed:
            raise UsageError(f"{name} is {value!r:.40}: another type is needed")
    _check_sizes(found)
    found = {"layer_types": ("global",) * found["num_hidden_layers"]} | found
    return ModernBertConfig(**found, family=family.name, extra=dict(values))


def _check_sizes(values: Mapping[str, Any]) -> None:
    """Refuse absurd sizes before anything of that size is allocated."""
    for name, most in _LARGEST.items():
        size = values.get(name)
        if size is not None and (type(size) is not int or not 1 <= size <= most):
            raise UsageError(f"{name} is {size!r:.40}: a whole number from 1 to {most:,} is needed")


def _check_types(values: Mapping[str, Any]) -> None:
    """Raise DataError for a value of another JSON type than its setting has: a file may hold anything."""
    types: dict[str, Any] = {
        field.name: int | float for field in fields(ModernBertConfig) if field.type is float
    }
    types |= {"pad_token_id": int, "rope_parameters": dict}
    types |= dict.fromkeys(("layer_types", "layer_order"), list | tuple)
    types |= dict.fromkeys(("hidden_activation", "classifier_activation"), str)
    rope = values.get("rope_parameters")
    nested = {name: (rope.get(name), dict) for name in _HF_LAYER_TYPES} if isinstance(rope, dict) else {}
    for name, (value, kind) in (
        {name: (values.get(name), kind) for name, kind in types.items()} | nested
    ).items():
        if value is not None and not isinstance(value, kind):
            raise DataError(f"{name} is {value!r:.40}: another type is needed")


def _every(period: int, layers: int) -> tuple[LayerType, ...]:
    return tuple("local" if layer % period else "global" for layer in range(layers))


def _own_spelling(values: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in values.items() if name not in _MODERNBERT | _OPTIONS}
    layers = int(values.get("num_hidden_layers") or 22)
    return own | _rope_thetas(values) | _activation(values) | {"layer_types": _layer_types(values, layers)}


def _layer_types(values: Mapping[str, Any], layers: int) -> tuple[LayerType, ...]:
    named = values.get("layer_types")
    if named is None:
        return _every(int(values.get("global_attn_every_n_layers") or 3), layers)
    unknown = sorted(set(named) - set(_HF_LAYER_TYPES))
    if unknown:
        raise UsageError(f"layer_types holds {unknown[0]!r}: known are {sorted(_HF_LAYER_TYPES)}")
    return tuple(_HF_LAYER_TYPES[name] for name in named)


def _activation(values: Mapping[str, Any]) -> dict[str, ActivationName]:
    named: dict[str, ActivationName] = {}
    for hf, own in (("hidden_activation", "activation"), ("classifier_activation", "classifier_activation")):
        name = values.get(hf, "gelu")
        if name not in _HF_ACTIVATIONS:
            raise UsageError(f"{hf} {name!r} is not supported: {', '.join(_HF_ACTIVATIONS)} are")
        named[own] = _HF_ACTIVATIONS[name]
    return named


def _rope_thetas(values: Mapping[str, Any]) -> dict[str, float]:
    thetas: dict[str, float] = {}
    for hf, name in _HF_LAYER_TYPES.items():
        parameters = (values.get("rope_parameters") or {}).get(hf) or {}
        if parameters.get("rope_type", "default") != "default":
            raise UsageError(f"rope_type {parameters['rope_type']!r} is not supported: 'default' is")
        if "rope_theta" in parameters:
            thetas[f"{name}_rope_theta"] = float(parameters["rope_theta"])
    return thetas
