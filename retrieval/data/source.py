"""A source of training data in a recipe: a folder, a file, a data set of the hub, or packages."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[int, Field(gt=0, lt=2**31)]

_LONGEST_PATH, _LONGEST_PART = 2_000, 255


def _possible(path: Any) -> Any:
    parts = Path(path).parts
    if len(str(path)) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_PART for part in parts):
        raise ValueError("longer than a path may be")
    return path


SomePath = Annotated[Path, AfterValidator(_possible)]
SomeName = Annotated[str, AfterValidator(_possible)]
"""A path, or a name that may be a path or a hub name."""

_KINDS = ("beir", "jsonl", "parquet", "hub", "docstrings")
_HUB_KEYS = ("subset", "revision", "streaming", "queries", "documents")
_COLUMN_KEYS = ("negatives", "scores", "ways")


class Source(BaseModel):
    """Training data from one place: a BEIR folder, a JSONL or Parquet file, the hub or installed packages.

    ``query``, ``document``, ``negatives`` (a column of lists, or several columns of one text each) and
    ``scores`` (a teacher's) name columns of rows. ``ways`` is the number of documents per row, with the
    positive; by default that of the first row. On the hub ``queries`` and ``documents`` are subsets with the
    texts of rows that hold ids; ``streaming`` reads rows in their order, up to ``max_pairs``.

    ``per_document`` is the largest number of queries per document, ``max_pairs`` that of rows, both drawn
    with the recipe's seed. ``repeat`` is how often an epoch shows the source. ``weight`` is its share of the
    batches relative to other sources, by default its number of rows. ``licence`` goes into the card.

    >>> Source(beir=Path("data/nfcorpus"), max_pairs=1_000).label
    'nfcorpus'
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
