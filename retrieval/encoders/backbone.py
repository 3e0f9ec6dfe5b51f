"""The backbone inside a sentence-transformers or PyLate model: swapping in flatcoat's, and its precision."""

import copy
from typing import TYPE_CHECKING, Any, cast, get_args

import torch
from torch import nn

from flatcoat.backbone.model import ModernBert
from flatcoat.errors import UsageError

from .contract import Precision

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel

    from flatcoat.backbone.packing import PackedBatch

_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


def unpad_backbone(model: "SentenceTransformer") -> bool:
    """Let flatcoat's backbone compute a model of sentence-transformers or PyLate, if it can express that.

    That may be a MultiVectorEncoder too, whose trainer then trains it. The weights are shared, not copied.
    Returns False for another backbone, which is left as it is.
    """
    from sentence_transformers.models import Transformer
    from transformers import PreTrainedModel

    from flatcoat.backbone.hf_model import unpadded

    module: Any = model[0]
    if not isinstance(module, Transformer) or not isinstance(module.auto_model, PreTrainedModel):
        return False
    if module.auto_model.config.output_hidden_states or (packed := unpadded(module.auto_model)) is None:
        return False
    # sentence-transformers 6 calls it model, and keeps the other name for readers.
    setattr(module, "model" if "model" in dict(module.named_children()) else "auto_model", packed)
    # None there: the model takes any argument, as ours does.
    if module.model_forward_params is not None:
        module.model_forward_params.add("keep_mask")
    if hasattr(module, "query_expansion"):
        module.register_forward_pre_hook(_keep_expansion)
    return True


def _keep_expansion(module: nn.Module, args: tuple[Any, ...]) -> None:
    """Let a MultiVectorEncoder's expansion tokens be computed, whose vectors are read, masked as they are."""
    features = args[0]
    expanded = features.get("query_expansion_positions")
    if expanded is not None:
        features["keep_mask"] = features["attention_mask"].bool() | expanded.bool()


def unpad_classifier(model: "PreTrainedModel") -> bool:
    """Let flatcoat's backbone compute the encoder beneath a transformers head, if it can express that.

    The weights are shared, not copied. Returns False for another encoder, which is left as it is.
    """
    from flatcoat.backbone.hf_model import unpadded

    encoder = cast("PreTrainedModel", model.base_model)
    if encoder is model or encoder.config.output_hidden_states or (packed := unpadded(encoder)) is None:
        return False
    setattr(model, model.base_model_prefix, packed)
    return True


def packed_backbone(model: "SentenceTransformer") -> "ModernBert | None":
    """The backbone over packed batches, if the model has flatcoat's (``unpad_backbone``), else None."""
    backbone = getattr(model[0], "auto_model", None)
    if isinstance(backbone, ModernBert):
        return backbone
    from flatcoat.backbone.hf_model import ModernBertModel, PackedForward

    return backbone.packed if isinstance(backbone, ModernBertModel | PackedForward) else None


def default_precision(model: "SentenceTransformer") -> Precision:
    """The precision of a model by default: the dtype of its weights, but float32 for ModernBERT on a CPU.

    A CPU without instructions for float16 takes twelve times as long in it.
    """
    if model.device.type == "cpu" and packed_backbone(model) is not None:
        return "fp32"
    return _weights_precision(model)


def backbone_in_precision(model: "SentenceTransformer", precision: Precision) -> "ModernBert | None":
    """The packed backbone of a model in a precision; None if transformers runs the model.

    A precision other than the dtype of the weights makes a copy of them: the weights that are trained, saved
    and hashed stay as they were loaded. Raises UsageError for an unknown precision, for int8 on a GPU, and
    for a precision other than the dtype of the weights if transformers runs the model.
    """
    return _in_precision(packed_backbone(model), precision, saved=_weights_precision(model))


def classify_in_precision(model: "PreTrainedModel", precision: Precision) -> None:
    """Let the packed encoder beneath a transformers head (``unpad_classifier``) compute in a precision.

    The head computes in the dtype of its weights. Raises as ``backbone_in_precision``.
    """
    encoder: Any = model.base_model
    packed = getattr(encoder, "packed", None)
    computing = _in_precision(packed, precision, saved=_weights_precision(model))
    if computing is not packed and computing is not None:
        encoder._packed = (_InDtype(computing, next(model.parameters()).dtype),)


def beneath_head(encoder: ModernBert, precision: Precision) -> nn.Module:
    """An encoder with float32 weights in a precision, its hidden states in float32 for the head on it.

    Raises as ``backbone_in_precision``.
    """
    computing = _in_precision(encoder, precision, saved="fp32")
    return encoder if computing is encoder or computing is None else _InDtype(computing, torch.float32)


class _InDtype(nn.Module):
    """A packed encoder whose hidden states have the dtype that a head reads."""

    gradient_checkpointing = False

    def __init__(self, encoder: ModernBert, dtype: torch.dtype) -> None:
        super().__init__()
        self._encoder, self._dtype = encoder, dtype

    def forward(self, batch: "PackedBatch") -> torch.Tensor:
        return self._encoder(batch).to(self._dtype)


def _in_precision(
    backbone: "ModernBert | None", precision: Precision, *, saved: Precision
) -> "ModernBert | None":
    if precision not in get_args(Precision):
        raise UsageError(f"no precision {precision!r}: {', '.join(get_args(Precision))} are known")
    if precision == saved:
        return backbone
    if backbone is None:
        raise UsageError(
            f"precision {precision} is for ModernBERT checkpoints; this one, whose weights are {saved}, runs "
            "through transformers: leave the precision out"
        )
    if precision == "int8":
        from flatcoat.backbone.quantization import quantize

        return quantize(backbone)
    return copy.deepcopy(backbone).to(_DTYPES[precision])


def _weights_precision(model: nn.Module) -> Precision:
    dtypes = {parameter.dtype for parameter in model.parameters()}
    known: list[Precision] = [name for name, dtype in _DTYPES.items() if dtype in dtypes]
    return known[0] if known else "fp32"
