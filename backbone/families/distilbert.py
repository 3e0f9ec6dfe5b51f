"""DistilBERT (arXiv 1910.01108): BERT without token types, with settings and names of its own.

As transformers' ``models/distilbert`` has them.
"""

from . import bert
from .family import Family, Setting, layers
from .head import Head, Task

_LAYER: dict[str, str | tuple[str, ...]] = {
    "attn.Wqkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "attn.Wo": "attention.out_lin",
    "attn_norm": "sa_layer_norm",
    "mlp.Wi": "ffn.lin1",
    "mlp.Wo": "ffn.lin2",
    "mlp_norm": "output_layer_norm",
}

_HEADS: dict[Task, Head] = {
    "masked": Head(
        architecture="DistilBertForMaskedLM",
        modules={
            "head.dense": "vocab_transform",
            "head.norm": "vocab_layer_norm",
            "decoder": "vocab_projector",
        },
    ),
    "sequence": Head(
        architecture="DistilBertForSequenceClassification",
        modules={"head.dense": "pre_classifier", "classifier": "classifier"},
        activation="relu",
        dropout=("seq_classif_dropout",),
    ),
    "token": bert.token_head("DistilBert", ("dropout",)),
}

FAMILY = Family(
    name="distilbert",
    model_types=("distilbert",),
    architecture="DistilBertModel",
    prefix="distilbert.",
    settings={
        "vocab_size": Setting("vocab_size", 30_522),
        "hidden_size": Setting("dim", 768),
        "intermediate_size": Setting("hidden_dim", 3072),
        "num_hidden_layers": Setting("n_layers", 6),
        "num_attention_heads": Setting("n_heads", 12),
        "max_position_embeddings": Setting("max_position_embeddings", 512),
        "activation": Setting("activation", "gelu"),
        "embedding_dropout": Setting("dropout", 0.1),
        "mlp_out_dropout": Setting("dropout", 0.1),
        "attention_weights_dropout": Setting("attention_dropout", 0.1),
        "initializer_range": Setting("initializer_range", 0.02),
        "pad_token_id": Setting("pad_token_id", 0),
        "tie_word_embeddings": Setting("tie_word_embeddings", True),
    },
    modules={name: theirs for name, theirs in bert.EMBEDDINGS.items() if "type" not in name}
    | dict(layers(_LAYER, inside="transformer.layer.#")),
    shape=bert.SHAPE | {"norm_eps": 1e-12},
    heads=_HEADS,
)
