"""What the frameworks keep of a document beside its text, as an index stores it, and what a result says."""

import json
import math
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatcoat.indexing.documents import Metadata

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder
    from flatcoat.retrieval.results import Result
    from flatcoat.retrieval.retriever import Retriever

_OTHER = "_other"
"""The field, in JSON, of all values that an index cannot filter by: dicts, None, NaN, lists of them."""


def stored_metadata(values: Mapping[str, Any]) -> Metadata:
    """Metadata of any JSON values as an index stores them; ``original_metadata`` gives them back.

    What JSON does not know (a path, a set of one's own) becomes its text.

    >>> stored_metadata({"year": 2020, "place": {"page": 3}})
    {'year': 2020, '_other': '{"place": {"page": 3}}'}
    """
    plain: Metadata = {str(name): value for name, value in values.items() if _is_plain(value)}
    other = {str(name): value for name, value in values.items() if not _is_plain(value)}
    return plain | ({_OTHER: json.dumps(other, default=str)} if other else {})


def original_metadata(metadata: Metadata) -> dict[str, Any]:
    """The values that ``stored_metadata`` came from.

    >>> original_metadata(stored_metadata({"tags": ["a", "b"], "none": None}))
    {'tags': ['a', 'b'], 'none': None}
    """
    values = {name: value for name, value in metadata.items() if name != _OTHER}
    other = json.loads(str(metadata[_OTHER])) if _OTHER in metadata else {}
    return values | other


def result_metadata(result: "Result") -> dict[str, Any]:
    """Where in its document a result is, and the metadata of that document, which come first."""
    place = {
        "source": result.document_id,
        "title": result.title,
        "section": result.section,
        "lines": list(result.lines),
        "score": result.score,
    }
    return place | original_metadata(result.metadata)


def opened(index: "str | Path | Retriever", model: "str | Encoder | None" = None) -> "Retriever":
    """The index at a path, or the Retriever that was given. Raises as ``Retriever.open``."""
    from flatcoat.retrieval.retriever import Retriever

    return index if isinstance(index, Retriever) else Retriever.open(index, model)


def opened_or_created(index: "str | Path | Retriever", model: "str | Encoder | None" = None) -> "Retriever":
    """As ``opened``, and a new index where there is none at the path. Raises as ``Retriever.create`` too."""
    from flatcoat.errors import NotFoundError
    from flatcoat.retrieval.encoders.load import SHIPPED_NAME
    from flatcoat.retrieval.retriever import Retriever

    try:
        return opened(index, model)
    except NotFoundError:
        if isinstance(index, Retriever) or (Path(index) / "index.sqlite").exists():
            raise
        return Retriever.create(index, SHIPPED_NAME if model is None else model)


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_plain(one) and not isinstance(one, list) for one in value)
    if isinstance(value, bool | str | date):
        return True
    if isinstance(value, int):
        return value.bit_length() < 64
    return isinstance(value, float) and math.isfinite(value)
