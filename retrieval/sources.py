"""Where training data come from: a recipe's source as a memory-mapped data set of one shape.

query, document (the positive), [negative_1 ... negative_n], [scores: n + 1 floats of a teacher]
"""

import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from .. import FlatcoatError
from ..indexing.documents import normalized
from .data import Pair, beir_pairs, jsonl_rows, parquet_rows
from .examples import PLACE, Columns, Example, Row, examples

if TYPE_CHECKING:
    from datasets import Dataset

Positive = Annotated[int, Field(gt=0, lt=2**31)]

_LONGEST_PATH, _LONGEST_PART = 2_000, 255


def _possible(path: Any) -> Any:
    parts = Path(path).parts
    if len(str(path)) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_PART for part in parts):
        raise ValueError("longer than a path may be")
    return path


SomePath = Annotated[Path, AfterValidator(_possible)]
SomeName = Annotated[str, AfterValidator(_possible)]
"""A path, or what may be one or a name of the hub."""

_KINDS = ("beir", "jsonl", "parquet", "hub", "docstrings")
_HUB_KEYS = ("subset", "revision", "streaming", "queries", "documents")
_BATCH = 1_000
_COLUMN_KEYS = ("negatives", "scores", "ways")


class Source(BaseModel):
    """Training data from one place: a BEIR folder, a JSONL or Parquet file, the hub or installed packages.

    ``query``, ``document``, ``negatives`` (a column of lists, or columns of a text each) and ``scores`` (a
    teacher's) name columns of rows. ``ways`` is how many documents a row has, the positive counted; as many
    as the first row's by default. On the hub ``queries`` and ``documents`` are subsets that hold the texts,
    where rows hold ids; ``streaming`` reads rows as they come, up to ``max_pairs``.

    ``per_document`` keeps at most so many queries of a document, ``max_pairs`` so many rows, both drawn with
    the recipe's seed. ``repeat`` shows the source so many times in an epoch. ``weight`` is its share of the
    batches relative to other sources, its number of rows by default. ``licence`` goes into the card.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    beir: SomePath | None = None
    jsonl: SomePath | None = None
    parquet: SomePath | None = None
    hub: SomeName | None = None
    docstrings: tuple[str, ...] | None = None
    subset: str | None = None
    split: SomeName = "train"
    revision: str | None = None
    streaming: bool = False
    queries: str | None = None
    documents: str | None = None
    query: str = "query"
    document: str = "document"
    negatives: str | tuple[str, ...] = ()
    scores: str | None = None
    ways: Positive | None = None
    per_document: Positive | None = None
    max_pairs: Positive | None = None
    repeat: Positive = 1
    weight: Annotated[float, Field(gt=0)] | None = None
    licence: str = ""

    @field_validator("split")
    @classmethod
    def _inside_the_data(cls, split: str) -> str:
        if "/" in split or "\\" in split:
            raise ValueError("the name of a split is wanted, without slashes")
        return split

    @model_validator(mode="after")
    def _one_kind(self) -> "Source":
        kinds = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(f"name exactly one of {', '.join(_KINDS)}")
        misplaced = set(_HUB_KEYS) if kinds != ["hub"] else set()
        if kinds[0] in ("beir", "docstrings"):
            misplaced |= set(_COLUMN_KEYS)
        for key in (*_HUB_KEYS, *_COLUMN_KEYS):
            if key in misplaced and key in self.model_fields_set:
                raise ValueError(f"{key} does not go with {kinds[0]}")
        if (self.queries is None) != (self.documents is None):
            raise ValueError("queries and documents are the subsets of the texts: name both or neither")
        return self

    @property
    def label(self) -> str:
        """A short name for logs and model cards."""
        if self.hub is not None:
            return self.hub.rpartition("/")[-1]
        if self.docstrings is not None:
            return "docstrings"
        if self.beir is not None:
            return self.beir.stem
        path = self.jsonl or self.parquet
        assert path is not None
        return path.parent.name or path.stem


def load_source(source: Source, root: Path, folder: Path, seed: int = 42, places: bool = False) -> "Dataset":
    """Read a source into an Arrow file in ``folder`` and open it memory-mapped, its rows drawn with ``seed``.

    Relative paths start at ``root``; so does a copy of a hub data set, which is preferred to the hub. Columns
    as above; with ``places`` one more says where each row was read, as ``file:line``. Raises FlatcoatError
    for data that are missing, malformed (the row is shown) or empty.
    """
    found = _examples(source, root, folder)
    if source.streaming:
        found = islice(found, source.max_pairs)
    dataset = _written(found, source, folder, places)
    rows = _sampled(dataset, source, random.Random(seed)) * source.repeat
    return dataset if rows == list(range(len(dataset))) else dataset.select(rows)


def _examples(source: Source, root: Path, folder: Path) -> Iterator[Example]:
    if source.beir is not None:
        return _paired(beir_pairs(root / source.beir, source.split))
    if source.docstrings is not None:
        from .docstrings import docstring_pairs

        return _paired(docstring_pairs(source.docstrings))
    columns = Columns(source.query, source.document, source.negatives, source.scores)
    return examples(_rows(source, root, folder), columns, source.ways, source.label)


def _paired(pairs: Iterable[Pair]) -> Iterator[Example]:
    for pair in pairs:
        yield Example(normalized(pair.query), normalized(pair.document), place=pair.place)


def _rows(source: Source, root: Path, folder: Path) -> Iterator[Row]:
    if source.jsonl is not None:
        return jsonl_rows(root / source.jsonl)
    if source.parquet is not None:
        return parquet_rows(root / source.parquet)
    from .hub import hub_rows

    return hub_rows(source, root, folder)


def _written(found: Iterator[Example], source: Source, folder: Path, places: bool) -> "Dataset":
    """All examples in an Arrow file, opened; memory holds a batch of them."""
    from datasets import Dataset, Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    first = next(found, None)
    if first is None:
        raise FlatcoatError(f"{source.label} has no pair of a query and a document to train on")
    names = ["query", "document", *(f"negative_{number + 1}" for number in range(len(first.negatives)))]
    features = Features({name: Value("string") for name in names})
    if first.scores:
        features["scores"] = List(Value("float32"))
    if places:
        features[PLACE] = Value("string")
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=folder)) / "rows.arrow"
    with ArrowWriter(features=features, path=str(path)) as writer:
        for batch in _batches(chain([first], found)):
            texts = zip(*((row.query, row.document, *row.negatives) for row in batch), strict=True)
            columns: dict[str, list[Any]] = dict(zip(names, map(list, texts), strict=True))
            if first.scores:
                columns["scores"] = [row.scores for row in batch]
            if places:
                columns[PLACE] = [row.place for row in batch]
            writer.write_batch(columns)
        writer.finalize()
    return Dataset.from_file(str(path))


def _batches(found: Iterator[Example]) -> Iterator[list[Example]]:
    return iter(lambda: list(islice(found, _BATCH)), [])


def _sampled(dataset: "Dataset", source: Source, generator: random.Random) -> list[int]:
    """The rows that are kept, in the order in which they are."""
    rows = list(range(len(dataset)))
    limit = None if source.streaming else source.max_pairs
    if source.per_document is None and limit is None:
        return rows
    generator.shuffle(rows)
    if source.per_document is not None:
        documents = dataset["document"][:]
        seen: Counter[str] = Counter()
        kept = []
        for row in rows:
            seen[documents[row]] += 1
            if seen[documents[row]] <= source.per_document:
                kept.append(row)
        rows = kept
    return rows[:limit]
