"""What goes into an index: documents as they were read, passages as they are searched."""

import unicodedata
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

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
    """How all text is stored and compared: in Unicode's form NFC, half a surrogate pair as U+FFFD."""
    if text.isascii():
        return text
    paired = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return unicodedata.normalize("NFC", paired.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
