"""The blocks of ModernBERT over packed tokens. Axes: T tokens, H heads, D width."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attend
from .rotary import Rotary, rotate


class Embeddings(nn.Module):
    """Token embeddings, LayerNorm, dropout: ids [T] to [T, D]."""

    def __init__(
        self,
        vocab_size: int,
        width: int,
        pad_token_id: int | None,
        eps: float,
        norm_bias: bool,
        dropout: float,
    ):
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocab_size, width, padding_idx=pad_token_id)
        self.norm = nn.LayerNorm(width, eps=eps, bias=norm_bias)
        self.drop = nn.Dropout(dropout)

    def forward(self, input_ids_T: Tensor) -> Tensor:
        return self.drop(self.norm(self.tok_embeddings(input_ids_T)))


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions, global or within ``window`` tokens on each side."""

    def __init__(self, width: int, heads: int, window: int | None, bias: bool, dropout: float):
        super().__init__()
        self.heads = heads
        self.window = window
        self.Wqkv = nn.Linear(width, 3 * width, bias=bias)
        self.Wo = nn.Linear(width, width, bias=bias)
        self.out_drop = nn.Dropout(dropout)

    def forward(self, hidden_TD: Tensor, attend: Attend, rotary: Rotary) -> Tensor:
        query, key, value = self.Wqkv(hidden_TD).unflatten(-1, (3, self.heads, -1)).unbind(1)
        mixed_THD = attend(rotate(query, rotary), rotate(key, rotary), value, self.window)
        return self.out_drop(self.Wo(mixed_THD.flatten(1)))


class GeGLU(nn.Module):
    """Gated feed-forward block (arXiv 2002.05202): the first half of Wi is activated, the second gates it."""

    def __init__(self, width: int, inner_width: int, bias: bool, dropout: float):
        super().__init__()
        self.Wi = nn.Linear(width, 2 * inner_width, bias=bias)
        self.drop = nn.Dropout(dropout)
        self.Wo = nn.Linear(inner_width, width, bias=bias)

    def forward(self, hidden_TD: Tensor) -> Tensor:
        activated, gate = self.Wi(hidden_TD).chunk(2, dim=-1)
        return self.Wo(self.drop(F.gelu(activated) * gate))


class Layer(nn.Module):
    """A pre-norm layer. ``attn_norm`` is an identity in the first: the embeddings are normed already."""

    def __init__(self, attention: Attention, mlp: GeGLU, attn_norm: nn.Module, mlp_norm: nn.Module):
        super().__init__()
        self.attn_norm = attn_norm
        self.attn = attention
        self.mlp_norm = mlp_norm
        self.mlp = mlp

    def forward(self, hidden_TD: Tensor, attend: Attend, rotary: Rotary) -> Tensor:
        hidden_TD = hidden_TD + self.attn(self.attn_norm(hidden_TD), attend, rotary)
        return hidden_TD + self.mlp(self.mlp_norm(hidden_TD))


@torch.no_grad()
def truncated_normal(weight: Tensor, std: float) -> None:
    """Fill in place from a normal distribution cut at two standard deviations (ModernBERT's start)."""
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
