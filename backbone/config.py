"""The shape of a ModernBERT, read from and written to Hugging Face's ``config.json``.

Source: arXiv 2412.13663 and the published checkpoints. Two spellings of the attention pattern and of the
rotary bases are in circulation; both are read, and both are written so that every release loads them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from .. import FlatcoatError

LayerType = Literal["global", "local"]
_HF_LAYER_TYPES: dict[str, LayerType] = {"full_attention": "global", "sliding_attention": "local"}
_HF_NAMES = {name: hf for hf, name in _HF_LAYER_TYPES.items()}


@dataclass(frozen=True)
class ModernBertConfig:
    """Defaults are ModernBERT-base. ``layer_types`` left empty repeats global, local, local.

    ``local_attention`` counts the tokens of a local window on both sides together (128: 64 each way).
    Raises FlatcoatError where the numbers do not fit together.
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
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    decoder_bias: bool = True
    classifier_bias: bool = False
    attention_dropout: float = 0.0
    embedding_dropout: float = 0.0
    mlp_dropout: float = 0.0
    initializer_range: float = 0.02
    pad_token_id: int = 50283
    bos_token_id: int = 50281
    eos_token_id: int = 50282
    cls_token_id: int = 50281
    sep_token_id: int = 50282
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise FlatcoatError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                f"{self.num_attention_heads}"
            )
        if self.head_width % 2:
            raise FlatcoatError(f"head width {self.head_width} is odd: rotary positions need an even one")
        if not self.layer_types:
            pattern: tuple[LayerType, ...] = tuple(
                "local" if layer % 3 else "global" for layer in range(self.num_hidden_layers)
            )
            object.__setattr__(self, "layer_types", pattern)
        if len(self.layer_types) != self.num_hidden_layers:
            raise FlatcoatError(
                f"layer_types names {len(self.layer_types)} layers, num_hidden_layers is "
                f"{self.num_hidden_layers}"
            )

    @property
    def head_width(self) -> int:
        """Components of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @staticmethod
    def from_hf(values: Mapping[str, Any]) -> "ModernBertConfig":
        """Read the content of a Hugging Face ``config.json`` in either spelling.

        Raises FlatcoatError for another model type, another activation than gelu, or scaled rotary positions.
        """
        if values.get("model_type") != "modernbert":
            raise FlatcoatError(
                f"model_type is {values.get('model_type')!r}: a modernbert checkpoint is needed"
            )
        if values.get("hidden_activation", "gelu") != "gelu":
            raise FlatcoatError(
                f"hidden_activation {values['hidden_activation']!r} is not supported: gelu is"
            )
        own = {field.name for field in fields(ModernBertConfig)} - {"extra", "layer_types"}
        known = {name: values[name] for name in own if values.get(name) is not None}
        known |= _rope_thetas(values)
        layers = int(known.get("num_hidden_layers", 22))
        extra = {name: value for name, value in values.items() if name not in own}
        return ModernBertConfig(**known, layer_types=_layer_types(values, layers), extra=extra)

    def to_hf(self) -> dict[str, Any]:
        """The content of a Hugging Face ``config.json``, in both spellings where the older one can say it."""
        own = asdict(self)
        extra = own.pop("extra")
        types = own.pop("layer_types")
        thetas = {"global": self.global_rope_theta, "local": self.local_rope_theta}
        values = extra | own
        values |= {
            "model_type": "modernbert",
            "hidden_activation": "gelu",
            "layer_types": [_HF_NAMES[name] for name in types],
            "rope_parameters": {
                hf: {"rope_type": "default", "rope_theta": thetas[name]}
                for hf, name in _HF_LAYER_TYPES.items()
            },
        }
        period = next(
            (every for every in range(1, len(types) + 1) if types == _every(every, len(types))), None
        )
        values.pop("global_attn_every_n_layers", None)
        return values if period is None else values | {"global_attn_every_n_layers": period}


def _every(period: int, layers: int) -> tuple[LayerType, ...]:
    return tuple("local" if layer % period else "global" for layer in range(layers))


def _layer_types(values: Mapping[str, Any], layers: int) -> tuple[LayerType, ...]:
    named = values.get("layer_types")
    if named is None:
        return _every(int(values.get("global_attn_every_n_layers") or 3), layers)
    unknown = sorted(set(named) - set(_HF_LAYER_TYPES))
    if unknown:
        raise FlatcoatError(f"layer_types holds {unknown[0]!r}: known are {sorted(_HF_LAYER_TYPES)}")
    return tuple(_HF_LAYER_TYPES[name] for name in named)


def _rope_thetas(values: Mapping[str, Any]) -> dict[str, float]:
    thetas: dict[str, float] = {}
    for hf, name in _HF_LAYER_TYPES.items():
        parameters = (values.get("rope_parameters") or {}).get(hf) or {}
        if parameters.get("rope_type", "default") != "default":
            raise FlatcoatError(f"rope_type {parameters['rope_type']!r} is not supported: 'default' is")
        if "rope_theta" in parameters:
            thetas[f"{name}_rope_theta"] = float(parameters["rope_theta"])
    return thetas
