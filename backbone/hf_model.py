"""The packed encoder behind transformers' interface: padded tensors in, padded tensors out.

sentence-transformers, PyLate and their trainers call it; it unpads once before the embeddings and repads once
after the final norm. Axes: N sequences, L padded length, T tokens, D width.
"""

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import ModernBertConfig as HFConfig
from transformers import ModernBertModel as HFModernBert
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling

from flatcoat.errors import FlatcoatError

from .config import ModernBertConfig
from .families.family import Family
from .layers import JoinedLinear
from .model import ModernBert
from .packing import repad, unpad
from .weights import init_empty_weights


class ModernBertModel(PreTrainedModel):
    """Loads, saves and answers as transformers' ``ModernBertModel``; computes as ``ModernBert``.

    It bears the same name because transformers writes the name of the class that it saves into
    ``config.json``, where other libraries look up what to load.

    >>> sizes = dict(hidden_size=8, num_attention_heads=2, num_hidden_layers=1, vocab_size=10)
    >>> model = ModernBertModel(HFConfig(**ModernBertConfig(pad_token_id=0, **sizes).to_hf()))
    >>> model(torch.tensor([[1, 2, 3], [4, 0, 0]])).last_hidden_state.shape
    torch.Size([2, 3, 8])
    """

    config_class = HFConfig
    base_model_prefix = "model"
    _supports_sdpa = True
    _supports_flash_attn = True
    supports_gradient_checkpointing = True
    gradient_checkpointing = False
    """Set by transformers' ``gradient_checkpointing_enable``; always checkpointed without re-entrance."""

    def __init__(self, config: HFConfig):
        super().__init__(config)
        packed = ModernBert(ModernBertConfig.from_hf(config.to_dict()))
        self.embeddings = packed.embeddings
        self.layers = packed.layers
        self.final_norm = packed.final_norm
        # In a tuple, so not registered: its parameters are ours already, under the published names.
        self._packed = (packed,)

    @staticmethod
    def of(model: PreTrainedModel) -> "ModernBertModel":
        """The same weights as a transformers ``ModernBertModel``, not copied, computed without padding."""
        with init_empty_weights():
            ours = ModernBertModel(cast(HFConfig, model.config))
        ours.load_state_dict(model.state_dict(), assign=True)
        return ours.train(model.training)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings.tok_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.tok_embeddings = cast(nn.Embedding, value)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        keep_mask: Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutput:
        """Hidden states [N, L, D], zero at padding.

        ``keep_mask`` marks tokens that are computed though attention_mask hides them from the others.
        """
        self.packed.gradient_checkpointing = self.gradient_checkpointing
        hidden_NLD = _hidden_states(self.packed, input_ids, attention_mask, keep_mask=keep_mask)
        return BaseModelOutput(last_hidden_state=cast(torch.FloatTensor, hidden_NLD))

    @property
    def packed(self) -> ModernBert:
        """The encoder of packed batches, on the same parameters."""
        return self._packed[0]


class PackedForward:
    """Beside a transformers class among the bases: its weights, names and files, computed without padding."""

    _packed: tuple[ModernBert]
    """In a tuple, so not registered: its parameters are the model's already, under the published names."""

    @property
    def packed(self) -> ModernBert:
        """The encoder of packed batches, on the same parameters."""
        return self._packed[0]

    def train(self, mode: bool = True) -> Any:
        self.packed.train(mode)
        return cast(Any, super()).train(mode)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        keep_mask: Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPooling:
        """Hidden states [N, L, D], zero at padding; ``keep_mask`` as in ``ModernBertModel``.

        Pooled states too, where the model has a pooler.
        """
        name = "is_activation_checkpointing"  # Since transformers 5.24, which warns of the name before.
        known = name if hasattr(type(self), name) else "is_gradient_checkpointing"
        self.packed.gradient_checkpointing = getattr(self, known)
        hidden_NLD = _hidden_states(
            self.packed, input_ids, attention_mask, keep_mask=keep_mask, token_types_NL=token_type_ids
        )
        return BaseModelOutputWithPooling(
            last_hidden_state=cast(torch.FloatTensor, hidden_NLD), pooler_output=self._pooled(hidden_NLD)
        )

    def _pooled(self, hidden_NLD: Tensor) -> Any:
        pooler, activation = (getattr(self, name, None) for name in ("pooler", "pooler_activation"))
        if pooler is None or activation is None:
            return None if pooler is None else pooler(hidden_NLD)
        return activation(pooler(hidden_NLD[:, 0]))  # ALBERT's.

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (type(self).__mro__[2],), self.__dict__


def unpadded(model: PreTrainedModel) -> "ModernBertModel | PackedForward | None":
    """The same weights as a transformers encoder, not copied, computed without padding.

    ModernBERT's come in a model of their own; a model of a family becomes one itself. Returns None for an
    encoder that the backbone does not compute.
    """
    if isinstance(model, ModernBertModel | PackedForward):
        return model
    if isinstance(model, HFModernBert):
        return ModernBertModel.of(model)
    try:
        config = ModernBertConfig.from_hf(model.config.to_dict())
    except FlatcoatError:
        return None
    family = config.published
    if family is None or type(model).__name__ != family.architecture:
        return None
    if family.custom_code and type(model).__module__.startswith("transformers.models."):
        return None  # A class of the same name with other modules.
    packed = _on_the_modules_of(model, config, family)
    model.__class__ = _packed_class(type(model))
    packed_model = cast(PackedForward, model)
    packed_model._packed = (packed.train(model.training),)
    return packed_model


@cache
def _packed_class(kind: type[PreTrainedModel]) -> type:
    # Of the same name: transformers writes it into config.json, where other libraries look up what to load.
    return type(kind.__name__, (PackedForward, kind), {"__module__": kind.__module__})


def _blank(kind: type[PreTrainedModel]) -> Any:
    """An instance for pickle to fill: the class has no name by which it could be found."""
    return object.__new__(_packed_class(kind))


def _on_the_modules_of(model: nn.Module, config: ModernBertConfig, family: Family) -> ModernBert:
    """A backbone whose parts are a model's own modules: nothing is copied, and gradients are the model's."""
    with init_empty_weights():
        packed = ModernBert(config)
    for name, theirs in family.placed(config.layer_count).items():
        if name == "embeddings.project" and not config.embedding_size:
            continue
        parts = [model.get_submodule(part) for part in theirs]
        swapped = family.gates_first and name.endswith("mlp.Wi")
        is_plain = len(parts) == 1 and not swapped
        linears = cast(list[nn.Linear], parts)
        packed.set_submodule(name, parts[0] if is_plain else JoinedLinear(linears, swapped=swapped))
    return packed


def _hidden_states(
    packed: ModernBert,
    input_ids_NL: Tensor,
    attention_mask_NL: Tensor | None,
    *,
    keep_mask: Tensor | None,
    token_types_NL: Tensor | None = None,
) -> Tensor:
    mask_NL = torch.ones_like(input_ids_NL) if attention_mask_NL is None else attention_mask_NL
    batch, positions_T = unpad(input_ids_NL, mask_NL, keep_mask_NL=keep_mask, token_types_NL=token_types_NL)
    return repad(packed(batch), positions_T, shape=input_ids_NL.shape)
