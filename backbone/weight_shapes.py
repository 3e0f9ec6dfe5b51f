"""The shapes of the encoder's weights by name, without torch."""

from .config import ModernBertConfig

Shapes = dict[str, tuple[int, ...]]


def weight_shapes(config: ModernBertConfig) -> Shapes:
    """The shapes of the weights of ``model.ModernBert``, without a head, in no order.

    >>> weight_shapes(ModernBertConfig(num_hidden_layers=1))["layers.0.attn.Wo.weight"]
    (768, 768)
    """
    width, inner = config.hidden_size, config.intermediate_size
    linears = {
        "attn.Wqkv": (sum(config.head_counts) * config.head_width, width, config.attention_bias),
        "attn.Wo": (width, width, config.attention_bias),
        "mlp.Wi": (inner * (2 if config.mlp_kind == "glu" else 1), width, config.mlp_bias),
        "mlp.Wo": (width, inner, config.has_out_bias),
    }
    shapes = _embedding_shapes(config)
    norms = ["final_norm"] if config.norm_position == "pre" else []
    for index in range(config.layer_count):
        # Embeddings that are normed already are not normed again before the attention of the first layer.
        is_normed = index == 0 and config.norm_position == "pre" and config.embedding_norm
        norms += [f"layers.{index}.{norm}" for norm in ("attn_norm", "mlp_norm")[is_normed:]]
        for name, (out, into, bias) in linears.items():
            shapes[f"layers.{index}.{name}.weight"] = (out, into)
            if bias:
                shapes[f"layers.{index}.{name}.bias"] = (out,)
    for norm in norms:
        shapes |= _norm_shapes(norm, width, config)
    return shapes


def _embedding_shapes(config: ModernBertConfig) -> Shapes:
    width = config.embedding_size or config.hidden_size
    shapes: Shapes = {"embeddings.tok_embeddings.weight": (config.vocab_size, width)}
    if config.positions == "absolute":
        shapes["embeddings.position_embeddings.weight"] = (config.max_position_embeddings, width)
    if config.type_vocab_size:
        shapes["embeddings.type_embeddings.weight"] = (config.type_vocab_size, width)
    if config.embedding_size:
        shapes["embeddings.project.weight"] = (config.hidden_size, width)
        shapes["embeddings.project.bias"] = (config.hidden_size,)
    if config.relative_buckets:
        shapes["relative_bias.weight"] = (config.relative_buckets, config.num_attention_heads)
    return shapes | (_norm_shapes("embeddings.norm", width, config) if config.embedding_norm else {})


def _norm_shapes(name: str, width: int, config: ModernBertConfig) -> Shapes:
    return {f"{name}.weight": (width,)} | ({f"{name}.bias": (width,)} if config.norm_bias else {})
