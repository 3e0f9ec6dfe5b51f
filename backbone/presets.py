"""The configs of published encoders by name, to pretrain them here and to compare them with ModernBERT.

They are shapes: dropout is off, and BERT's segment embeddings are left out, as one row of them folds into the
positions.
Sources: arXiv 2412.13663 (ModernBERT), 1810.04805 (BERT), 1907.11692 (RoBERTa), 2312.17482 (MosaicBERT).
"""

from typing import Any

from flatcoat.errors import UsageError

from .config import ModernBertConfig

_BERT: dict[str, Any] = {
    "vocab_size": 30_522,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "max_position_embeddings": 512,
    "positions": "absolute",
    "norm_position": "post",
    "mlp_kind": "mlp",
    "norm_eps": 1e-12,
    "norm_bias": True,
    "attention_bias": True,
    "mlp_bias": True,
    "classifier_bias": True,
    "pad_token_id": 0,
    "bos_token_id": 101,
    "cls_token_id": 101,
    "eos_token_id": 102,
    "sep_token_id": 102,
}
_ROBERTA = _BERT | {
    "vocab_size": 50_265,
    "norm_eps": 1e-5,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "cls_token_id": 0,
    "eos_token_id": 2,
    "sep_token_id": 2,
}
_MODERN = {"classifier_pooling": "mean"}  # As the published checkpoints; transformers' default is "cls".
_LARGE = {"hidden_size": 1024, "num_attention_heads": 16}
PRESETS: dict[str, dict[str, Any]] = {
    "modernbert-base": _MODERN,
    "modernbert-large": _MODERN | _LARGE | {"intermediate_size": 2624, "num_hidden_layers": 28},
    "bert-base": _BERT,
    "bert-large": _BERT | _LARGE | {"intermediate_size": 4096, "num_hidden_layers": 24},
    "roberta-base": _ROBERTA,
    "roberta-large": _ROBERTA | _LARGE | {"intermediate_size": 4096, "num_hidden_layers": 24},
    "mosaicbert-base": _BERT | {"vocab_size": 30_528, "positions": "alibi", "mlp_kind": "glu"},
}
"""Arguments of ModernBertConfig by name; all layers are global where the name is not ModernBERT's."""


def preset(name: str, **changes: Any) -> ModernBertConfig:
    """The config of a published encoder, with some fields changed.

    >>> preset("bert-base", norm_position="pre").num_hidden_layers
    12

    Raises UsageError for an unknown name, and as ModernBertConfig does.
    """
    if name not in PRESETS:
        raise UsageError(f"preset {name!r} is unknown: known are {', '.join(PRESETS)}")
    values = PRESETS[name] | changes
    if not name.startswith("modernbert"):
        values = {"layer_types": ("global",) * values["num_hidden_layers"]} | values
    return ModernBertConfig(**values)
