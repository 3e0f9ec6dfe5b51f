"""Documents as they are read, and passages as they are indexed and searched."""

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeAlias, TypeGuard

from flatcoat.errors import UsageError

Scalar: TypeAlias = str | int | float | bool
Metadata: TypeAlias = dict[str, Scalar | list[Scalar]]

OWN_FIELDS = ("symbol", "kind", "exported")
"""The metadata of a passage of code itself, which say what it defines."""


class Heading(NamedTuple):
    """The beginning of a part of a document: its 1-based line, its level (1 is outermost), and its name."""

    line: int
    level: int
    name: str


@dataclass(frozen=True)
class Document:
    """One text with an id of the user's own. Adding a document with the same id replaces the earlier one.

    An id is a text, or a whole number, which is stored as its digits. Metadata values are texts, numbers,
    booleans, and lists of these; dates are stored as ISO texts. Other types are refused when a document is
    added (``checked``).

    ``outline`` (lines rising) names parts that the text itself does not show: pages, cells, HTML headings.

    >>> Document("sky", "Blue light scatters most.", title="Why is the sky blue?", metadata={"year": 1871}).id
    'sky'
    """

    id: str
    text: str
    title: str = ""
    metadata: Metadata = field(default_factory=dict)
    outline: tuple[Heading, ...] = ()


@dataclass(frozen=True)
class Passage:
    """A piece of a document that is encoded and found as a unit; its ``lines`` are 1-based and inclusive.

    ``section`` is its place in the document: the path of headings, the names of classes and functions.
    ``metadata`` are those of its document, but for the fields that ``own`` names, which are of OWN_FIELDS.

    >>> Passage("sky", "Blue light scatters most.", "Optics", section="Scattering").searchable
    'Optics Scattering Blue light scatters most.'
    """

    document_id: str
    text: str
    title: str = ""
    lines: tuple[int, int] = (1, 1)
    metadata: Metadata = field(default_factory=dict)
    section: str = ""
    own: tuple[str, ...] = ()

    @property
    def document_metadata(self) -> Metadata:
        """The metadata that it shares with all passages of its document."""
        return {name: value for name, value in self.metadata.items() if name not in self.own}

    @property
    def searchable(self) -> str:
        """The text that is encoded: title and section, where there are any, then the passage."""
        return " ".join(part for part in (self.title, self.section, self.text) if part)


def whole_text(pieces: Iterable[tuple[int, str]], *, overlap: bool = False) -> str:
    """The text of a document from its passages, in order: the first line (1-based) and the text of each.

    Blank lines between passages are empty, and those at the end are lost. ``overlap`` says that a passage may
    repeat the end of the one before; a text that repeats itself there by chance is shortened.

    >>> whole_text([(2, "one\\ntw"), (3, "o"), (5, "three")])
    '\\none\\ntwo\\n\\nthree'
    """
    lines: list[str] = []
    for first, text in pieces:
        lines += [""] * (first - 1 - len(lines))
        before = "\n".join(lines[first - 1 :])  # A line too long for one passage goes on in the next.
        added = _without_repeated(before, text) if overlap and before else text
        lines[first - 1 :] = (before + added).split("\n")
    return "\n".join(lines)


def _without_repeated(before: str, text: str) -> str:
    """``text`` without the longest beginning that ``before`` ends with, whole or but for a line break."""
    shared = (size for size in range(min(len(before), len(text)), 0, -1) if before.endswith(text[:size]))
    return text[next(shared, 0) :]


def content_hash(document: Document) -> str:
    """The digest (SHA-256, hexadecimal) of everything that decides what a document's passages are.

    >>> content_hash(Document("a", "text"))[:8] == content_hash(Document("b", "text"))[:8]
    True
    """
    content = [document.title, document.text, document.metadata, document.outline]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def normalized(text: str) -> str:
    """``text`` as all text is stored and compared: in Unicode's form NFC, a lone surrogate as three U+FFFD.

    >>> normalized("re\\u0301sume\\u0301") == "r\\u00e9sum\\u00e9"
    True
    """
    if text.isascii():
        return text
    paired = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return unicodedata.normalize("NFC", paired.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))


def checked(document: object) -> Document:
    """The document as it is stored: NumPy scalars as Python's, dates as ISO texts, all text ``normalized``.

    UsageError where it is no document, or an id, a text or a metadata value has another type.

    >>> checked(Document(7, "text", metadata={"date": date(2024, 1, 2)})).metadata
    {'date': '2024-01-02'}
    """
    if not isinstance(document, Document):
        raise UsageError(f"{_shown(document)} came, a Document is needed: Document(id, text)")
    id = checked_id(document.id)
    for part, value in (("text", document.text), ("title", document.title)):
        if not isinstance(value, str):
            raise UsageError(f"the {part} of document {id!r} is {_shown(value)}: a text is needed")
    if not isinstance(document.metadata, Mapping):
        raise UsageError(f"the metadata of document {id!r} are {_shown(document.metadata)}: a dict is needed")
    return Document(
        id, _text(document.text), _text(document.title), _metadata(id, document.metadata), _outline(document)
    )


def checked_id(id: object) -> str:
    """The id as it is stored; UsageError where it is neither a text nor a whole number, or empty.

    >>> checked_id(7)
    '7'
    """
    id = _plain(id)
    if isinstance(id, Integral) and not isinstance(id, bool):
        id = str(int(id))
    if not isinstance(id, str) or not id or "\0" in id:
        raise UsageError(f"document id {_shown(id)}: a text that is not empty, or a whole number is needed")
    return normalized(str.__str__(id))


def is_value(value: object) -> bool:
    """Whether metadata can have this value: a text, number or boolean, or a list of these."""
    several = value if isinstance(value, list) else [value]
    return all(isinstance(one, Scalar) for one in several)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a real number of Python or NumPy; booleans are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _metadata(id: str, metadata: Mapping[Any, Any]) -> Metadata:
    stored: Metadata = {}
    for name, value in metadata.items():
        if not isinstance(name, str):
            raise UsageError(f"metadata field {_shown(name)} of document {id!r}: its name must be a text")
        if (name := _text(name)) in stored:
            raise UsageError(
                f"metadata field {name!r} of document {id!r} comes twice, but for its Unicode form"
            )
        stored[name] = _value(id, name, _plain(value))
    return stored


def _value(id: str, name: str, value: object) -> Scalar | list[Scalar]:
    if isinstance(value, list | tuple):
        return [_scalar(id, name, _plain(one)) for one in value]
    return _scalar(id, name, value)


def _scalar(id: str, name: str, value: object) -> Scalar:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, date):  # datetime is one
        return value.isoformat()
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral) and int(value).bit_length() < 64:  # SQLite compares these exactly
        return int(value)
    if isinstance(value, Real) and not isinstance(value, Integral) and math.isfinite(value):
        return float(value)
    raise UsageError(
        f"metadata {name!r} of {id!r} is {_shown(value)}: a text, finite number, boolean, date, or a list of "
        "these is needed"
    )


def _outline(document: Document) -> tuple[Heading, ...]:
    try:
        return tuple(Heading(int(line), int(level), _text(name)) for line, level, name in document.outline)
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(
            f"the outline of document {document.id!r} is {_shown(document.outline)}: "
            "a tuple of Heading(line, level, name) is needed"
        ) from error


def _text(text: str) -> str:
    return normalized(str.__str__(text)).replace("\0", "\ufffd")


def _plain(value: object) -> object:
    """A NumPy scalar as a Python scalar, anything else as it is."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0 else value  # type: ignore[attr-defined]


def _shown(value: object) -> str:
    """Type and value, shortened."""
    shown = ascii(value) if isinstance(value, str) else repr(value)
    return f"{type(value).__name__} {shown[:60]}{'…' if len(shown) > 60 else ''}"
