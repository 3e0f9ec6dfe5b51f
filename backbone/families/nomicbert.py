"""NomicBERT (arXiv 2402.01613): BERT with rotary positions and a gated feed-forward block, no biases there.

Settings and names as the code beside nomic-ai's checkpoints has them (``modeling_hf_nomic_bert.py``).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import bert
from .family import Family, Setting, layers
from .head import Head, Task

_LAYER: dict[str, str | tuple[str, ...]] = {
    "attn.Wqkv": "attn.Wqkv",
    "attn.Wo": "attn.out_proj",
    "attn_norm": "norm1",
    "mlp.Wi": ("mlp.fc12", "mlp.fc11"),
    "mlp.Wo": "mlp.fc2",
    "mlp_norm": "norm2",
}
_SHAPE: dict[str, Any] = bert.SHAPE | {"positions": "rope", "mlp_kind": "glu"}

_MULTIPLE = 256

_DROPOUT = ("classifier_dropout", "embd_pdrop")
_BERT: dict[Task, Head] = bert.heads("NomicBert", "bert.", norm="layer_norm", bias="")
_HEADS: dict[Task, Head] = {
    "masked": replace(_BERT["masked"], architecture="NomicBertForPreTraining", dense_bias="decoder_bias"),
    "sequence": replace(_BERT["sequence"], dropout=_DROPOUT),
    "token": replace(_BERT["token"], dropout=_DROPOUT),
}


def _inner(values: Mapping[str, Any]) -> dict[str, Any]:
    """The width of the feed-forward block is rounded up."""
    inner = values.get("n_inner")
    return {"intermediate_size": -(-inner // _MULTIPLE) * _MULTIPLE} if type(inner) is int else {}


FAMILY = Family(
    name="nomicbert",
    model_types=("nomic_bert",),
    architecture="NomicBertModel",
    prefix="bert.",
    settings={
        "vocab_size": Setting("vocab_size", 30_528),
        "hidden_size": Setting("n_embd", 768),
        "intermediate_size": Setting("n_inner", 3072),
        "num_hidden_layers": Setting("n_layer", 12),
        "num_attention_heads": Setting("n_head", 12),
        "max_position_embeddings": Setting("n_positions", 2048),
        "type_vocab_size": Setting("type_vocab_size", 2),
        "activation": Setting("activation_function", "swiglu"),
        "global_rope_theta": Setting("rotary_emb_base", 10_000),
        "norm_eps": Setting("layer_norm_epsilon", 1e-12),
        "attention_bias": Setting("qkv_proj_bias", True),
        "mlp_bias": Setting("mlp_fc1_bias", True),
        "decoder_bias": Setting("mlp_fc1_bias", True),
        "mlp_out_bias": Setting("mlp_fc2_bias", True),
        "embedding_dropout": Setting("resid_pdrop", 0.1),
        "attention_dropout": Setting("resid_pdrop", 0.1),
        "mlp_out_dropout": Setting("resid_pdrop", 0.1),
        "attention_weights_dropout": Setting("attn_pdrop", 0.1),
        "initializer_range": Setting("initializer_range", 0.02),
        "pad_token_id": Setting("pad_token_id", 0),
        "tie_word_embeddings": Setting("tie_word_embeddings", True),
    },
    modules={
        "embeddings.tok_embeddings": "embeddings.word_embeddings",
        "embeddings.type_embeddings": "embeddings.token_type_embeddings",
        "embeddings.norm": "emb_ln",
    }
    | dict(layers(_LAYER, inside="encoder.layers.#")),
    shape=_SHAPE,
    accepted={
        "activation_function": ("swiglu", "geglu"),
        "prenorm": (False,),
        "parallel_block": (False, None),
        "use_rms_norm": (False, None),
        "causal": (False, None),
        "rotary_emb_fraction": (1.0,),
        "rotary_emb_interleaved": (False, None),
        "rotary_emb_scale_base": (None,),
        "rotary_scaling_factor": (None,),
        "num_experts": (0, None),
    },
    # transformers has had NomicBERT itself since 5.24, with settings of other names.
    marks=("n_embd",),
    adapt=_inner,
    heads=_HEADS,
    custom_code=True,
)
