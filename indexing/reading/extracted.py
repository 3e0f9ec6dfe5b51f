"""The text of a file without its format (HTML, PDF, notebook), or the reason why there is none."""

from typing import NamedTuple

from flatcoat.errors import DataError
from flatcoat.indexing.documents import Heading, normalized


class Unreadable(DataError):
    """A file whose text could not be extracted; the message says why in a few words."""


class Extracted(NamedTuple):
    """A file's text, title, language and outline; without ``title`` or ``lang`` its name decides."""

    text: str
    title: str = ""
    lang: str = ""
    outline: tuple[Heading, ...] = ()


def cleaned(text: str) -> str:
    r"""``normalized`` with \n as its only line end, and without NUL, where some databases end a text."""
    return normalized(text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd"))
