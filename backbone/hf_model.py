"""The packed encoder behind transformers' interface: padded tensors in, padded tensors out.

sentence-transformers, PyLate and their trainers call it; it unpads once before the embeddings and repads once
after the final norm. Axes: N sequences, L padded length, T tokens, D width.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import ModernBertConfig as HFConfig
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .config import ModernBertConfig
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
        mask_NL = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        batch, positions_T = unpad(input_ids, mask_NL, keep_mask_NL=keep_mask)
        self.packed.gradient_checkpointing = self.gradient_checkpointing
        hidden_TD = self.packed(batch)
        hidden_NLD = repad(hidden_TD, positions_T, shape=input_ids.shape)
        return BaseModelOutput(last_hidden_state=cast(torch.FloatTensor, hidden_NLD))

    @property
    def packed(self) -> ModernBert:
        """The encoder of packed batches, on the same parameters."""
        return self._packed[0]
