"""MosaicBERT (arXiv 2312.17482): BERT with ALiBi and a gated feed-forward block.

Settings and names as the code beside mosaicml's checkpoints has them (``bert_layers.py``).
"""

from dataclasses import replace

from . import bert
from .family import layers

_LAYER: dict[str, str | tuple[str, ...]] = {
    "attn.Wqkv": "attention.self.Wqkv",
    "attn.Wo": "attention.output.dense",
    "attn_norm": "attention.output.LayerNorm",
    "mlp.Wi": "mlp.gated_layers",
    "mlp.Wo": "mlp.wo",
    "mlp_norm": "mlp.layernorm",
}

FAMILY = replace(
    bert.FAMILY,
    name="mosaicbert",
    modules={name: theirs for name, theirs in bert.EMBEDDINGS.items() if "position" not in name}
    | dict(layers(_LAYER, inside="encoder.layer.#")),
    shape=bert.SHAPE
    | {
        "positions": "alibi",
        "mlp_kind": "glu",
        "mlp_bias": False,
        "mlp_out_bias": True,
        "activation": "gelu",
    },
    settings={name: setting for name, setting in bert.SETTINGS.items() if name != "activation"}
    | {"mlp_dropout": bert.SETTINGS["mlp_out_dropout"], "mlp_out_dropout": bert.NO_DROPOUT},
    accepted={"position_embedding_type": ("absolute", None, "alibi")},
    marks=("alibi_starting_size",),
    custom_code=True,
    heads=bert.heads("Bert", "bert.", bias=""),
)
