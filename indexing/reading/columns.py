"""Which columns of a row are a document's id, text, title and metadata."""

from collections.abc import Set
from dataclasses import dataclass
from datetime import date
from typing import Any

from flatcoat.indexing.documents import Document, checked, normalized

IDS = ("_id", "id")
"""The columns that an id is read from unless another is named."""

_MOST_TAGS = 100
NESTED = "metadata"
"""The column whose object's entries are metadata."""

_EXACT = 2**53  # whole floats below are exactly what was meant


@dataclass(frozen=True)
class Columns:
    """The names of a document's columns.

    Without ``id`` it is "_id" or "id", or the number of the row, from 1, where the first rows have neither.
    Several ``text`` columns are joined by newlines, nulls left out. Without ``title`` it is "title" where
    there is one. Without ``metadata`` it is every other column of texts, numbers, booleans, dates or short
    lists of texts, and the entries of an object called "metadata".

    >>> columns = Columns(id="key", text=("question", "answer"))
    >>> row = {"key": 7, "question": "why?", "answer": "because", "year": 2020}
    >>> document_of(row, columns)
    Document(id='7', text='why?\\nbecause', title='', metadata={'year': 2020}, outline=())
    """

    id: str | None = None
    text: str | tuple[str, ...] = "text"
    title: str | None = None
    metadata: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for field in ("id", "text", "title", "metadata"):
            object.__setattr__(self, field, _normalized_names(getattr(self, field)))

    @property
    def texts(self) -> tuple[str, ...]:
        """The text columns."""
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that must be there."""
        return (*self.texts, *filter(None, (self.id, self.title)), *(self.metadata or ()))

    @property
    def not_metadata(self) -> Set[str]:
        """The columns that are no metadata unless named as such."""
        ids = (self.id,) if self.id else IDS
        return {*ids, *self.texts, self.title or "title"}


def _normalized_names(names: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
    return normalized(names) if isinstance(names, str) else names and tuple(map(normalized, names))


USUAL = Columns()


def document_of(values: dict[str, Any], columns: Columns = USUAL, *, id: str | None = None) -> Document:
    """The document of one row, called ``id`` if given, else by ``id_of``; a null text or title is empty.

    Null metadata and objects are left out. Raises ValueError, and FlatcoatError as ``checked`` does,
    for a row that is no document.
    """
    values = {normalized(name): value for name, value in values.items()}
    id = id_of(values, columns) if id is None else id
    title = values.get(columns.title or "title")
    if not isinstance(title, str | None):
        raise ValueError(f"the title must be a text or null, {title!r:.40} came")
    return checked(Document(id, _text(values, columns.texts), title or "", _metadata(values, columns)))


def id_of(values: dict[str, Any], columns: Columns = USUAL) -> str:
    """The id of a row: a text, or a whole number's digits (1.0 is 1); ValueError where there is none."""
    names = IDS if columns.id is None else (columns.id,)
    id = next((values[name] for name in names if name in values), None)
    if id is None and not any(name in values for name in names):
        raise ValueError(f"no column {' or '.join(map(repr, names))}")
    if isinstance(id, float) and id.is_integer() and abs(id) < _EXACT:
        id = int(id)  # Tables turn whole numbers into floats where some are missing.
    if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
        raise ValueError(f"the id must be a text or whole number, {id!r:.40} came")
    return str(id)


def _text(values: dict[str, Any], names: tuple[str, ...]) -> str:
    if not any(name in values for name in names):
        raise ValueError(f"no column {names[0]!r}; there are {', '.join(map(repr, values)):.200}")
    parts = [values[name] for name in names if values.get(name) is not None]
    for part in parts:
        if not isinstance(part, str):
            raise ValueError(f"the text must be a text or null, {part!r:.40} came")
    return "\n".join(parts)


def _metadata(values: dict[str, Any], columns: Columns) -> dict[str, Any]:
    if columns.metadata is not None:
        named = {name: values.get(name) for name in columns.metadata}
        return {name: value for name, value in named.items() if _is_scalar(value) or _is_list(value)}
    nested = values.get(NESTED)
    others = {
        name: value for name, value in values.items() if name not in columns.not_metadata and name != NESTED
    }
    found = (nested if isinstance(nested, dict) else {}) | others
    return {name: value for name, value in found.items() if _is_scalar(value) or _are_tags(value)}


def _is_scalar(value: object) -> bool:
    """Whether metadata can have a value; ``checked`` refuses those that an index cannot keep."""
    return isinstance(value, str | int | float | date) and value == value  # A table's NaN is its null.


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_scalar, value))


def _are_tags(value: object) -> bool:
    """Whether a list is short and of texts: a vector or a list of tokens is metadata only where named."""
    return isinstance(value, list) and len(value) <= _MOST_TAGS and all(isinstance(one, str) for one in value)
