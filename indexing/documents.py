"""What goes into an index: documents as they were read, passages as they are searched."""

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeAlias

from flatcoat.errors import FlatcoatError

Scalar: TypeAlias = str | int | float | bool
Metadata: TypeAlias = dict[str, Scalar]


class Heading(NamedTuple):
    """Where a part of a document begins: a 1-based line, how deep (1 is outermost), and what it is called."""

    line: int
    level: int
    name: str


@dataclass(frozen=True)
class Document:
    """One text with an id of the user's own. Adding an id again replaces what it stood for.

    An id is a text; a whole number is taken as its digits. Metadata are texts, numbers and booleans; dates
    become ISO texts. ``checked`` says no to anything else when a document is added.

    ``outline`` (lines rising) names parts that the text itself does not show: pages, cells, HTML headings.
    """

    id: str
    text: str
    title: str = ""
    metadata: Metadata = field(default_factory=dict)
    outline: tuple[Heading, ...] = ()


@dataclass(frozen=True)
class Passage:
    """A piece of a document that is encoded and found as one: ``lines`` are 1-based and inclusive.

    ``section`` says where in the document: the path of headings, the names of classes and functions.
    """

    document_id: str
    text: str
    title: str = ""
    lines: tuple[int, int] = (1, 1)
    metadata: Metadata = field(default_factory=dict)
    section: str = ""

    @property
    def searchable(self) -> str:
        """The text that is encoded: title and section, where there are any, then the passage."""
        return " ".join(part for part in (self.title, self.section, self.text) if part)


def normalized(text: str) -> str:
    """How all text is stored and compared: in Unicode's form NFC, half a surrogate pair as three U+FFFD."""
    if text.isascii():
        return text
    paired = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return unicodedata.normalize("NFC", paired.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))


def checked(document: object) -> Document:
    """The document as an index keeps it: NumPy's scalars plain, dates as ISO texts, all text ``normalized``.

    FlatcoatError where it is no document, or an id, a text or a metadata value has another type.
    """
    if not isinstance(document, Document):
        raise FlatcoatError(f"{_shown(document)} came, a Document is needed: Document(id, text)")
    id = checked_id(document.id)
    for part, value in (("text", document.text), ("title", document.title)):
        if not isinstance(value, str):
            raise FlatcoatError(f"the {part} of document {id!r} is {_shown(value)}: a text is needed")
    if not isinstance(document.metadata, Mapping):
        raise FlatcoatError(
            f"the metadata of document {id!r} are {_shown(document.metadata)}: a dict is needed"
        )
    return Document(
        id, _text(document.text), _text(document.title), _metadata(id, document.metadata), _outline(document)
    )


def checked_id(id: object) -> str:
    """An id as an index keeps it; FlatcoatError where it is neither a text nor a whole number, or empty."""
    id = _plain(id)
    if isinstance(id, Integral) and not isinstance(id, bool):
        id = str(int(id))
    if not isinstance(id, str) or not id or "\0" in id:
        raise FlatcoatError(
            f"document id {_shown(id)}: a text that is not empty, or a whole number is needed"
        )
    return normalized(str.__str__(id))


def _metadata(id: str, metadata: Mapping[Any, Any]) -> Metadata:
    found: Metadata = {}
    for name, value in metadata.items():
        if not isinstance(name, str):
            raise FlatcoatError(f"metadata field {_shown(name)} of document {id!r}: its name must be a text")
        if (name := _text(name)) in found:
            raise FlatcoatError(
                f"metadata field {name!r} of document {id!r} comes twice, but for its Unicode form"
            )
        found[name] = _scalar(id, name, _plain(value))
    return found


def _scalar(id: str, name: str, value: object) -> Scalar:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, date):  # datetime is one
        return value.isoformat()
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral) and int(value).bit_length() < 64:  # what SQLite compares exactly
        return int(value)
    if isinstance(value, Real) and not isinstance(value, Integral) and math.isfinite(value):
        return float(value)
    raise FlatcoatError(
        f"metadata {name!r} of {id!r} is {_shown(value)}: a text, finite number, boolean or date is needed"
    )


def _outline(document: Document) -> tuple[Heading, ...]:
    try:
        return tuple(Heading(int(line), int(level), _text(name)) for line, level, name in document.outline)
    except (AttributeError, TypeError, ValueError) as error:
        raise FlatcoatError(
            f"the outline of document {document.id!r} is {_shown(document.outline)}: "
            "a tuple of Heading(line, level, name) is needed"
        ) from error


def _text(text: str) -> str:
    return normalized(str.__str__(text)).replace("\0", "\ufffd")


def _plain(value: object) -> object:
    """A NumPy scalar as Python's own."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0 else value  # type: ignore[attr-defined]


def _shown(value: object) -> str:
    """Type and value, in a few words."""
    shown = ascii(value) if isinstance(value, str) else repr(value)
    return f"{type(value).__name__} {shown[:60]}{'…' if len(shown) > 60 else ''}"
