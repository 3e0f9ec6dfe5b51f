"""The order of training batches: every batch from one source, sources mixed by their shares."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.sampler import MultiDatasetDefaultBatchSampler

from .. import FlatcoatError

if TYPE_CHECKING:
    from torch.utils.data import ConcatDataset


class MixedBatches(MultiDatasetDefaultBatchSampler):
    """All batches of a run, as one sequence that the seed decides.

    Sources are drawn by ``shares`` (relative), or by their numbers of batches. Each starts over in a new
    order when it is through, so that nothing but the batch's number says what is in it. Raises FlatcoatError
    where a source cannot fill one batch with texts that all differ.
    """

    def __init__(
        self,
        dataset: "ConcatDataset[Any]",
        batch_samplers: Sequence[Any],
        generator: torch.Generator | None,
        seed: int,
        batches: int,
        shares: Sequence[float],
    ):
        super().__init__(dataset, list(batch_samplers), generator, seed)
        self._batches = batches
        self._shares = shares

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        starts = [0, *self.dataset.cumulative_sizes]
        streams = [self._stream(source) for source in range(len(self.batch_samplers))]
        for source in islice(self._sources(), self._batches):
            yield [starts[source] + row for row in next(streams[source])]

    def _sources(self) -> Iterator[int]:
        whole = sum(map(len, self.batch_samplers))
        counts = [max(1, round(whole * share / sum(self._shares))) for share in self._shares]
        sources = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        for epoch in count():
            generator = torch.Generator().manual_seed(self.seed + epoch)
            yield from sources[torch.randperm(len(sources), generator=generator)].tolist()

    def _stream(self, source: int) -> Iterator[list[int]]:
        sampler: Any = self.batch_samplers[source]
        for epoch in count():
            sampler.set_epoch(epoch)
            # Samplers of one trainer share a generator, which belongs to nobody halfway through.
            sampler.generator = torch.Generator()
            empty = True
            for batch in sampler:
                empty = False
                yield batch
            if empty:
                raise FlatcoatError(
                    f"source {source + 1} of the training data has no {sampler.batch_size} rows whose texts "
                    "all differ: name a smaller batch_size"
                )


def shares_of(sizes: Mapping[str, int], weights: Mapping[str, float]) -> list[float]:
    """The share of each source: its weight, or its number of rows."""
    return [weights.get(name, size) for name, size in sizes.items()]
