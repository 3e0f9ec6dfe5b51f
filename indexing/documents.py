"""What goes into an index: documents as they were read, passages as they are searched."""

from dataclasses import dataclass, field
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool
Metadata: TypeAlias = dict[str, Scalar]


@dataclass(frozen=True)
class Document:
    """One text with an id of the user's own. Adding an id again replaces what it stood for."""

    id: str
    text: str
    title: str = ""
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True)
class Passage:
    """A piece of a document that is encoded and found as one: ``lines`` are 1-based and inclusive."""

    document_id: str
    text: str
    title: str = ""
    lines: tuple[int, int] = (1, 1)
    metadata: Metadata = field(default_factory=dict)

    @property
    def searchable(self) -> str:
        """The text that is encoded: the title, where there is one, then the passage."""
        return f"{self.title} {self.text}" if self.title else self.text
