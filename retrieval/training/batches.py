"""Training batches: each from one source, sources mixed by their shares, texts tokenised column by column."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.sampler import MultiDatasetDefaultBatchSampler
from torch import Tensor

from flatcoat.errors import UsageError
from flatcoat.retrieval.data.examples import PLACE
from flatcoat.retrieval.encoders.colbert_model import ColbertModel

from .batch_teachers import BatchTeachers

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch.utils.data import ConcatDataset

SCORES = "scores"
"""The column of a teacher's scores: one per document of a row, the positive's first."""


class MixedBatches(MultiDatasetDefaultBatchSampler):
    """All batches of a run as one sequence of row numbers that depends on the seed alone.

    Sources are drawn by their relative ``shares``. An exhausted source starts again in a new order, so that
    the number of a batch alone determines its rows: a resumed run skips the batches it has seen. Raises
    UsageError if a source cannot fill one batch with distinct texts.
    """

    def __init__(
        self,
        dataset: "ConcatDataset[Any]",
        batch_samplers: Sequence[Any],
        *,
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
        # Rows are numbered through all sources, as ConcatDataset lays them end to end.
        starts = [0, *self.dataset.cumulative_sizes]
        streams = [self._batches_of(source) for source in range(len(self.batch_samplers))]
        for source in islice(self._source_order(), self._batches):
            yield [starts[source] + row for row in next(streams[source])]

    def _source_order(self) -> Iterator[int]:
        """The source of every batch: per epoch a shuffle in which each source occurs by its share."""
        batches_per_epoch = sum(map(len, self.batch_samplers))
        total = sum(self._shares)
        # Even a tiny share gets one batch per epoch.
        counts = [max(1, round(batches_per_epoch * share / total)) for share in self._shares]
        sources = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        for epoch in count():
            generator = torch.Generator().manual_seed(self.seed + epoch)
            yield from sources[torch.randperm(len(sources), generator=generator)].tolist()

    def _batches_of(self, source: int) -> Iterator[list[int]]:
        """Batches of one source without end, epoch after epoch, shuffled anew in each."""
        sampler: Any = self.batch_samplers[source]
        for epoch in count():
            sampler.set_epoch(epoch)
            # The samplers of a trainer share one generator: taken in turns, they would disturb each other.
            sampler.generator = torch.Generator()
            empty = True
            for batch in sampler:
                empty = False
                yield batch
            if empty:
                raise UsageError(
                    f"source {source + 1} of the training data has no {sampler.batch_size} rows whose texts "
                    "all differ: name a smaller batch_size"
                )


def source_shares(sizes: Mapping[str, int], weights: Mapping[str, float]) -> list[float]:
    """The relative share of each source: its weight, or else its number of rows.

    >>> source_shares({"squad": 900, "code": 300}, {"code": 450.0})
    [900, 450.0]
    """
    return [weights.get(name, size) for name, size in sizes.items()]


class Collator:
    """Tokenises a batch: its queries, and all its documents together, each padded to the longest.

    Rows hold a query, a document, negatives, a teacher's scores if the loss needs them, and their places,
    which are passed through. With ``teachers`` they get the teachers' scores of all documents of the batch.
    """

    # Read by the sampler, which keeps equal texts apart: columns that hold no text.
    valid_label_columns: Sequence[str] = (SCORES, PLACE)

    def __init__(self, model: "SentenceTransformer", teachers: BatchTeachers | None = None):
        self._model = model
        self._teachers = teachers

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        query, *documents = (name for name in rows[0] if name not in self.valid_label_columns)
        batch: dict[str, Any] = _prefixed(query, self._tokenized([row[query] for row in rows], is_query=True))
        # Tokenised at once, so that every column of documents has the same padded length: losses stack them.
        together = self._tokenized([row[name] for name in documents for row in rows], is_query=False)
        for index, name in enumerate(documents):
            part = slice(index * len(rows), (index + 1) * len(rows))
            batch |= _prefixed(name, {key: values[part] for key, values in together.items()})
        if SCORES in rows[0]:
            batch["label"] = torch.tensor([row[SCORES] for row in rows])
        if self._teachers is not None:
            texts = [row[name] for row in rows for name in documents]
            batch["label"] = torch.from_numpy(self._teachers([row[query] for row in rows], texts))
        if PLACE in rows[0]:
            batch[PLACE] = [row[PLACE] for row in rows]
        return batch

    def _tokenized(self, texts: list[str], is_query: bool) -> dict[str, Tensor]:
        model = self._model
        if isinstance(model, ColbertModel):
            return model.tokenize(texts, is_query=is_query)
        prompt = model.prompts.get("query" if is_query else "document", "")
        features = model.tokenize([prompt + text for text in texts])
        # sentence-transformers 6 says too that these are texts, which it takes them for anyway.
        return {name: values for name, values in features.items() if isinstance(values, Tensor)}


def _prefixed(column: str, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Features under the names by which sentence-transformers' trainer tells columns apart."""
    return {f"{column}_{key}": values for key, values in features.items()}
