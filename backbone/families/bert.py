"""BERT (arXiv 1810.04805), and whatever was trained as one: MiniLM, BGE, E5, GTE's first models, ...

Settings and names as transformers' ``models/bert`` has them.
"""

from typing import Any

from .family import Family, Setting, layers
from .head import Head, Task

SHAPE: dict[str, Any] = {
    "positions": "absolute",
    "norm_position": "post",
    "mlp_kind": "mlp",
    "norm_bias": True,
    "attention_bias": True,
    "mlp_bias": True,
    "classifier_bias": True,
}
"""What BERT and the encoders made after it share."""

SETTINGS: dict[str, Setting] = {
    "vocab_size": Setting("vocab_size", 30_522),
    "hidden_size": Setting("hidden_size", 768),
    "intermediate_size": Setting("intermediate_size", 3072),
    "num_hidden_layers": Setting("num_hidden_layers", 12),
    "num_attention_heads": Setting("num_attention_heads", 12),
    "max_position_embeddings": Setting("max_position_embeddings", 512),
    "type_vocab_size": Setting("type_vocab_size", 2),
    "activation": Setting("hidden_act", "gelu"),
    "norm_eps": Setting("layer_norm_eps", 1e-12),
    "embedding_dropout": Setting("hidden_dropout_prob", 0.1),
    "attention_dropout": Setting("hidden_dropout_prob", 0.1),
    "mlp_out_dropout": Setting("hidden_dropout_prob", 0.1),
    "attention_weights_dropout": Setting("attention_probs_dropout_prob", 0.1),
    "initializer_range": Setting("initializer_range", 0.02),
    "pad_token_id": Setting("pad_token_id", 0),
    "tie_word_embeddings": Setting("tie_word_embeddings", True),
}

NO_DROPOUT = Setting("", 0.0)
"""A field that no key of a config.json sets."""

EMBEDDINGS = {
    "embeddings.tok_embeddings": "embeddings.word_embeddings",
    "embeddings.position_embeddings": "embeddings.position_embeddings",
    "embeddings.type_embeddings": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
}
LAYER = {
    "attn.Wqkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attn.Wo": "attention.output.dense",
    "attn_norm": "attention.output.LayerNorm",
    "mlp.Wi": "intermediate.dense",
    "mlp.Wo": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
MODULES = EMBEDDINGS | dict(layers(LAYER, inside="encoder.layer.#"))

DROPOUT = ("classifier_dropout", "hidden_dropout_prob")


def heads(
    name: str, prefix: str, *, norm: str = "LayerNorm", bias: str = "cls.predictions.bias"
) -> dict[Task, Head]:
    """BERT's heads in a family whose classes begin with ``name``; ``prefix`` stands before its encoder."""
    transform = "cls.predictions.transform"
    return {
        "masked": Head(
            architecture=f"{name}ForMaskedLM",
            modules={
                "head.dense": f"{transform}.dense",
                "head.norm": f"{transform}.{norm}",
                "decoder": "cls.predictions.decoder",
            },
            bias=bias,
        ),
        "sequence": Head(
            architecture=f"{name}ForSequenceClassification",
            modules={"head.dense": f"{prefix}pooler.dense", "classifier": "classifier"},
            activation="tanh",
            dropout=DROPOUT,
        ),
        "token": token_head(name),
    }


def token_head(name: str, dropout: tuple[str, ...] = DROPOUT) -> Head:
    """A linear layer on every token."""
    return Head(
        architecture=f"{name}ForTokenClassification", modules={"classifier": "classifier"}, dropout=dropout
    )


ACCEPTED = {
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "auto_map": (None,),
}

FAMILY = Family(
    name="bert",
    model_types=("bert",),
    architecture="BertModel",
    prefix="bert.",
    settings=SETTINGS,
    modules=MODULES,
    shape=SHAPE,
    accepted=ACCEPTED,
    heads=heads("Bert", "bert."),
)
