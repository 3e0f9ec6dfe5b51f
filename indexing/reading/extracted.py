"""What a file's bytes hold once its format is taken away."""

from typing import NamedTuple

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.documents import Heading, normalized


class Unreadable(FlatcoatError):
    """A file without text that could be had; the message is the reason, a few words."""


class Extracted(NamedTuple):
    """A file's text with what its format says of it; an empty ``title`` or ``lang`` is that of its name."""

    text: str
    title: str = ""
    lang: str = ""
    outline: tuple[Heading, ...] = ()


def cleaned(text: str) -> str:
    r"""``normalized`` with \n as its only line end, and without NUL, at which some databases end a text."""
    return normalized(text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd"))
