"""Batches without padding: token ids of many sequences laid end to end.

Axes: N sequences, L padded length, T tokens of all sequences together, D width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from flatcoat.errors import UsageError


@dataclass(frozen=True)
class PackedBatch:
    """Sequence ``i`` owns tokens ``cu_seqlens[i]:cu_seqlens[i + 1]`` (int32 [N + 1], starting at 0).

    ``key_mask_T`` (bool), where given, is False at tokens that attend but are not attended to, as ColBERT's
    query-expansion tokens are. ``token_types_T`` (int64) says which part of its text a token belongs to, as
    in a pair of query and document; None: all to the first. ``lengths`` has the sequence lengths as Python
    numbers, so that planning a forward never waits for a device.

    >>> batch = PackedBatch.from_sequences([[7, 8, 9], [5]])
    >>> batch.input_ids_T.tolist(), batch.cu_seqlens.tolist(), batch.max_seqlen
    ([7, 8, 9, 5], [0, 3, 4], 3)
    """

    input_ids_T: Tensor
    cu_seqlens: Tensor
    lengths: tuple[int, ...]
    key_mask_T: Tensor | None = None
    token_types_T: Tensor | None = None

    @property
    def max_seqlen(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.lengths, default=0)

    def positions(self) -> Tensor:
        """The position of each token in its own sequence: [T] (int64)."""
        # From tensors that lie on the device: the lengths would have to be copied there.
        offsets = self.cu_seqlens
        tokens = torch.arange(len(self.input_ids_T), dtype=offsets.dtype, device=offsets.device)
        sequence_T = torch.bucketize(tokens, offsets[1:], right=True)
        return (tokens - offsets[sequence_T]).long()

    @staticmethod
    def from_sequences(
        sequences: Sequence[Sequence[int]], device: torch.device | str | None = None
    ) -> "PackedBatch":
        """Lay lists of token ids end to end. Raises UsageError for an empty sequence."""
        lengths = tuple(map(len, sequences))
        if not all(lengths):
            raise UsageError(f"sequence {lengths.index(0)} is empty: every sequence needs a token")
        flat = [token for sequence in sequences for token in sequence]
        ids_T = torch.tensor(flat, dtype=torch.long, device=device)
        return PackedBatch(ids_T, cumulative(lengths, device), lengths)


def cumulative(lengths: Sequence[int], device: torch.device | str | None = None) -> Tensor:
    """Offsets [N + 1] (int32) of sequences of these lengths laid end to end."""
    ends = torch.tensor((0, *lengths), dtype=torch.int32).cumsum(0, dtype=torch.int32)
    return ends.to(device) if device is not None else ends


class Unpadded(NamedTuple):
    """A packed batch, and the flat positions [T] of its tokens in the padded [N * L] layout."""

    batch: PackedBatch
    positions_T: Tensor


def unpad(
    input_ids_NL: Tensor,
    attention_mask_NL: Tensor,
    *,
    keep_mask_NL: Tensor | None = None,
    token_types_NL: Tensor | None = None,
) -> Unpadded:
    """Drop padding, wherever in a row it stands; rows come out shortest first, so that equal lengths adjoin.

    ``keep_mask_NL`` marks tokens that are kept although attention_mask is 0 there: they attend to the others
    and are not attended to. A row of padding only contributes no sequence.

    >>> unpad(torch.tensor([[7, 8], [5, 0]]), torch.tensor([[1, 1], [1, 0]])).batch.input_ids_T.tolist()
    [5, 7, 8]
    """
    attended_NL = attention_mask_NL.bool()
    kept_NL = attended_NL if keep_mask_NL is None else attended_NL | keep_mask_NL.bool()
    lengths_N = kept_NL.sum(dim=1)
    order_N = torch.argsort(lengths_N, stable=True)
    grid_NL = torch.arange(kept_NL.numel(), device=kept_NL.device).view_as(kept_NL)
    positions_T = grid_NL[order_N][kept_NL[order_N]]
    lengths = tuple(length for length in lengths_N[order_N].tolist() if length)
    key_mask_T = None if keep_mask_NL is None else attended_NL.reshape(-1)[positions_T]
    batch = PackedBatch(
        input_ids_NL.reshape(-1)[positions_T],
        cumulative(lengths, input_ids_NL.device),
        lengths,
        key_mask_T,
        None if token_types_NL is None else token_types_NL.reshape(-1)[positions_T],
    )
    return Unpadded(batch, positions_T)


def repad(hidden_TD: Tensor, positions_T: Tensor, *, shape: Sequence[int]) -> Tensor:
    """Put tokens back where ``unpad`` found them: [N, L, D] for a ``shape`` of (N, L), zeros at padding."""
    rows, columns = shape
    padded = hidden_TD.new_zeros(rows * columns, hidden_TD.shape[-1])
    return padded.index_copy(0, positions_T, hidden_TD).view(rows, columns, -1)


def budget_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Group texts into batches of at most ``max_tokens`` tokens, similar lengths together, longest first.

    Yields lists of indices into ``lengths``, each list shortest first; a text longer than the budget is a
    batch of its own. Longest first, so that running out of memory shows at once.

    >>> list(budget_batches([3, 9, 2], max_tokens=10))
    [[1], [2, 0]]
    """
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if batch and tokens + lengths[index] > max_tokens:
            yield batch[::-1]
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch[::-1]
