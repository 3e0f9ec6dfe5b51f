"""The blocks of ModernBERT and of its ablations over packed tokens.

Axes: T tokens, H heads, W head width, D width.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flatcoat.errors import UsageError

from .attention import Attend
from .elementwise import activated, add_norm, added, gated, normed, rotated_qkv
from .packing import PackedBatch
from .positions import Rotary

Norm = nn.LayerNorm | nn.RMSNorm


def make_norm(kind: str, width: int, *, eps: float, bias: bool) -> Norm:
    """A "layernorm", or an "rmsnorm" (arXiv 1910.07467), which never has a bias."""
    return nn.RMSNorm(width, eps=eps) if kind == "rmsnorm" else nn.LayerNorm(width, eps=eps, bias=bias)


class Embeddings(nn.Module):
    """Token embeddings, what is added to them, norm, dropout, projection: [T, D].

    ``positions`` learned vectors, the first ``position_offset`` of them not for tokens, and ``types`` vectors
    for the parts of a text are added where given. The norm is over ``width`` components, ``project`` follows
    it. The forward raises UsageError for a sequence longer than the positions.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        *,
        pad_token_id: int | None,
        positions: int | None,
        norm: nn.Module,
        dropout: float,
        position_offset: int = 0,
        types: int = 0,
        project: nn.Module | None = None,
    ):
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocab_size, width, padding_idx=pad_token_id)
        self.position_embeddings = None if positions is None else nn.Embedding(positions, width)
        self.type_embeddings = nn.Embedding(types, width) if types else None
        self.norm = norm
        self.drop = nn.Dropout(dropout)
        self.project = project
        self.position_offset = position_offset

    def forward(self, batch: PackedBatch) -> Tensor:
        hidden_TD = self.tok_embeddings(batch.input_ids_T)
        if self.type_embeddings is not None:
            types_T, weight = batch.token_types_T, self.type_embeddings.weight
            hidden_TD = hidden_TD + (weight[0] if types_T is None else self.type_embeddings(types_T))
        if self.position_embeddings is not None:
            known = self.position_embeddings.num_embeddings - self.position_offset
            if batch.max_seqlen > known:
                raise UsageError(
                    f"a sequence of {batch.max_seqlen} tokens is longer than the {known} learned positions: "
                    f"truncate it to {known}"
                )
            hidden_TD = hidden_TD + self.position_embeddings(self._rows(batch))
        hidden_TD = self.drop(self.norm(hidden_TD))
        return hidden_TD if self.project is None else self.project(hidden_TD)

    def _rows(self, batch: PackedBatch) -> Tensor:
        """The learned position of each token; with an offset, padding in a text has its own, uncounted."""
        padding = self.tok_embeddings.padding_idx
        if not self.position_offset or padding is None:
            return batch.positions() + self.position_offset
        counted_T = batch.input_ids_T != padding
        counts_T = counted_T.long().cumsum(0)
        starts_N = batch.cu_seqlens[:-1].long()
        before_N = counts_T[starts_N] - counted_T[starts_N].long()
        lengths_N = batch.cu_seqlens.diff().long()
        counts_T = counts_T - before_N.repeat_interleave(lengths_N, output_size=len(counts_T))
        return counts_T * counted_T + self.position_offset - 1


class JoinedLinear(nn.Module):
    """One linear layer on the parameters of several with the same input, their outputs side by side.

    ``swapped``: the halves of the output change places.
    """

    def __init__(self, parts: Sequence[nn.Linear], *, swapped: bool = False):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.swapped = swapped

    @property
    def in_features(self) -> int:
        return self._linears[0].in_features

    @property
    def out_features(self) -> int:
        return sum(part.out_features for part in self._linears)

    @property
    def weight(self) -> Tensor:
        return self._joined([part.weight for part in self._linears])

    @property
    def bias(self) -> Tensor | None:
        biases: list[Tensor] = [part.bias for part in self._linears if part.bias is not None]
        return self._joined(biases) if biases else None

    def forward(self, states_TD: Tensor) -> Tensor:
        return F.linear(states_TD, self.weight, self.bias)

    def _joined(self, parts: list[Tensor]) -> Tensor:
        whole = torch.cat(parts)
        return torch.cat(whole.chunk(2)[::-1]) if self.swapped else whole

    @property
    def _linears(self) -> list[nn.Linear]:
        return cast(list[nn.Linear], list(self.parts))


class Attention(nn.Module):
    """Multi-head self-attention, global or within ``window`` tokens on each side.

    Queries and keys are rotated where a rotary table is given. Each of ``key_value_heads`` serves as many
    heads of queries.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        window: int | None,
        bias: bool,
        dropout: float,
        key_value_heads: int = 0,
    ):
        super().__init__()
        self.heads = heads
        self.key_value_heads = key_value_heads or heads
        self.window = window
        self.Wqkv = nn.Linear(width, width + 2 * (width // heads) * self.key_value_heads, bias=bias)
        self.Wo = nn.Linear(width, width, bias=bias)
        self.out_drop = nn.Dropout(dropout)

    def forward(self, hidden_TD: Tensor, attend: Attend, rotary: Rotary | None) -> Tensor:
        projected_TE = self.Wqkv(hidden_TD)
        if self.key_value_heads != self.heads:
            projected_TE = self._for_all_heads(projected_TE)
        mixed_THW = attend(*rotated_qkv(projected_TE, self.heads, rotary), self.window)
        return self.out_drop(self.Wo(mixed_THW.flatten(1)))

    def _for_all_heads(self, projected_TE: Tensor) -> Tensor:
        """Keys and values once for every head of queries."""
        states_TGW = projected_TE.unflatten(-1, (self.heads + 2 * self.key_value_heads, -1))
        query, *shared = states_TGW.split((self.heads, self.key_value_heads, self.key_value_heads), dim=1)
        times = self.heads // self.key_value_heads
        return torch.cat([query, *(part.repeat_interleave(times, dim=1) for part in shared)], dim=1).flatten(
            1
        )


class GatedMlp(nn.Module):
    """Gated feed-forward block (arXiv 2002.05202): the first half of Wi is activated, the second gates it."""

    def __init__(
        self,
        width: int,
        inner_width: int,
        *,
        activation: str,
        bias: bool,
        out_bias: bool | None = None,
        dropout: float,
        out_dropout: float = 0.0,
    ):
        super().__init__()
        self.activation = activation
        self.Wi = nn.Linear(width, 2 * inner_width, bias=bias)
        self.drop = nn.Dropout(dropout)
        self.Wo = nn.Linear(inner_width, width, bias=bias if out_bias is None else out_bias)
        self.out_drop = nn.Dropout(out_dropout)

    def forward(self, hidden_TD: Tensor) -> Tensor:
        return self.out_drop(self.Wo(self.drop(gated(self.Wi(hidden_TD), self.activation))))


class Mlp(nn.Module):
    """BERT's feed-forward block: no gate."""

    def __init__(
        self,
        width: int,
        inner_width: int,
        *,
        activation: str,
        bias: bool,
        out_bias: bool | None = None,
        dropout: float,
        out_dropout: float = 0.0,
    ):
        super().__init__()
        self.activation = activation
        self.Wi = nn.Linear(width, inner_width, bias=bias)
        self.drop = nn.Dropout(dropout)
        self.Wo = nn.Linear(inner_width, width, bias=bias if out_bias is None else out_bias)
        self.out_drop = nn.Dropout(out_dropout)

    def forward(self, hidden_TD: Tensor) -> Tensor:
        return self.out_drop(self.Wo(self.drop(activated(self.Wi(hidden_TD), self.activation))))


class Layer(nn.Module):
    """A pre-norm layer. ``attn_norm`` is an identity in the first: the embeddings are normed already.

    The residual stream may have a wider dtype than the layer's weights.
    """

    def __init__(self, attention: Attention, mlp: nn.Module, *, attn_norm: nn.Module, mlp_norm: Norm):
        super().__init__()
        self.attn_norm = attn_norm
        self.attn = attention
        self.mlp_norm = mlp_norm
        self.mlp = mlp

    def forward(self, hidden_TD: Tensor, attend: Attend, rotary: Rotary | None) -> Tensor:
        normed_TD = normed(hidden_TD, self.attn_norm, self.mlp_norm.weight.dtype)
        update_TD = self.attn(normed_TD, attend, rotary)
        hidden_TD, normed_TD = add_norm(hidden_TD, update_TD, self.mlp_norm)
        return added(hidden_TD, self.mlp(normed_TD))


class PostNormLayer(Layer):
    """BERT's order (arXiv 1810.04805): each norm stands after its residual sum, so none follows the last."""

    def forward(self, hidden_TD: Tensor, attend: Attend, rotary: Rotary | None) -> Tensor:
        hidden_TD = self.attn_norm(hidden_TD + self.attn(hidden_TD, attend, rotary))
        return self.mlp_norm(hidden_TD + self.mlp(hidden_TD))


@torch.no_grad()
def truncated_normal(weight: Tensor, std: float) -> None:
    """Fill in place from a normal distribution cut at two standard deviations (ModernBERT's start)."""
    if not weight.is_meta:  # A checkpoint's weights come next; computing on no data takes its time.
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
