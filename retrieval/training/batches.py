"""Training batches: each from one source, sources mixed by their shares, texts as tokenised columns."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import torch
from pylate.models import ColBERT
from sentence_transformers.sampler import MultiDatasetDefaultBatchSampler
from torch import Tensor

from flatcoat.errors import FlatcoatError
from flatcoat.retrieval.data.examples import PLACE

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
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


SCORES = "scores"


class Collator:
    """Tokenises the queries of a batch and all its documents, each padded to the longest there is.

    Rows hold query, document, negatives, a teacher's scores where the loss wants them, and their places,
    which are passed on as they are.
    """

    # No texts, of which a batch holds none twice.
    valid_label_columns: Sequence[str] = (SCORES, PLACE)

    def __init__(self, model: "SentenceTransformer"):
        self._model = model

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        query, *documents = (name for name in rows[0] if name not in self.valid_label_columns)
        batch: dict[str, Any] = _prefixed(query, self._tokenized([row[query] for row in rows], is_query=True))
        together = self._tokenized([row[name] for name in documents for row in rows], is_query=False)
        for index, name in enumerate(documents):
            part = slice(index * len(rows), (index + 1) * len(rows))
            batch |= _prefixed(name, {key: values[part] for key, values in together.items()})
        if SCORES in rows[0]:
            batch["label"] = torch.tensor([row[SCORES] for row in rows])
        if PLACE in rows[0]:
            batch[PLACE] = [row[PLACE] for row in rows]
        return batch

    def _tokenized(self, texts: list[str], is_query: bool) -> dict[str, Tensor]:
        model = self._model
        if isinstance(model, ColBERT):
            return model.tokenize(texts, is_query=is_query)
        prompt = model.prompts.get("query" if is_query else "document", "")
        return model.tokenize([prompt + text for text in texts])


def _prefixed(column: str, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{column}_{key}": values for key, values in features.items()}
