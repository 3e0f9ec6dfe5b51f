"""Bytes to text: by the byte order mark, else as UTF-8, else by the charset that fits the letters best."""

import codecs
import logging
from itertools import islice
from typing import TYPE_CHECKING

from flatcoat.errors import UsageError

from .extracted import Unreadable

if TYPE_CHECKING:
    from charset_normalizer import CharsetMatch

logger = logging.getLogger(__name__)

_MARKS = {  # UTF-32's before UTF-16's, which begins alike
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
# Charsets that browsers know and that are still in use; DOS code pages only draw wrong guesses.
_ONE_BYTE = (*(f"cp{page}" for page in range(1250, 1259)), "iso8859_2", "iso8859_5", "koi8_r", "cp874")
_MANY_BYTES = ("cp932", "euc_jp", "gb18030", "big5", "cp949")
_SAMPLE_LINES = 500
_SURE = 0.2


def decode(data: bytes, encoding: str | None = None) -> str:
    """The text of a file; Unreadable where it is binary, or its encoding cannot be detected.

    A byte order mark decides, then ``encoding``, then the bytes. A few broken bytes among many good ones
    become U+FFFD each.

    >>> decode("café".encode("utf-16")), decode("café".encode("latin-1"), "latin-1")
    ('café', 'café')
    """
    if mark := marked(data):
        try:
            return data.decode(mark)
        except UnicodeDecodeError as error:
            logger.debug("a byte order mark says %s, the bytes do not: %s", mark, error)
    if encoding is not None:
        return _decoded_as(data, encoding)
    if b"\0" in data:
        raise Unreadable("binary")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _mended(data) or _guessed(data)


def marked(data: bytes) -> str | None:
    """The encoding of a byte order mark at the start of ``data``, if there is one."""
    return next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), None)


def require_encoding(name: str | None) -> None:
    """UsageError where ``name`` is given and Python knows no charset of that name."""
    try:
        if name is not None:
            codecs.getincrementaldecoder(name)
            b"a".decode(name, "replace")  # refuses codecs that give no text
    except (LookupError, ValueError) as error:
        raise UsageError(f"no encoding {name!r}: name one such as utf-8, latin-1, gb18030") from error


def _decoded_as(data: bytes, encoding: str) -> str:
    text = data.decode(encoding, "replace")
    if "\0" in text:
        raise Unreadable("binary")
    if text.count("\ufffd") * 100 > len(text):
        raise Unreadable(f"not {encoding}")
    return text


def _mended(data: bytes) -> str:
    text = data.decode(errors="replace")
    good, broken = len(text.encode()) - len(text) - 2 * text.count("\ufffd"), text.count("\ufffd")
    return text if broken * 100 <= good else ""


def _guessed(data: bytes) -> str:
    from charset_normalizer import from_bytes

    lines = (line for line in data.splitlines() if not line.isascii())
    matches = from_bytes(b"\n".join(islice(lines, _SAMPLE_LINES)), cp_isolation=[*_ONE_BYTE, *_MANY_BYTES])
    best = max(matches, key=_likelihood, default=None)
    if best is None or _likelihood(best) < _SURE:
        raise Unreadable("unknown encoding")
    try:
        return data.decode("cp1252" if "cp1252" in best.could_be_from_charset else best.encoding)
    except UnicodeDecodeError as error:
        raise Unreadable("unknown encoding") from error


def _likelihood(match: "CharsetMatch") -> float:
    """How much the text looks like a language, less how much like noise; about 0.5 for the right guess."""
    if match.encoding in _MANY_BYTES:  # Long stretches rarely decode by chance, whatever the language.
        is_long = sum(not character.isascii() for character in str(match)) >= 10
        return 0.35 * is_long - match.chaos
    # Among charsets that fit about equally well the commonest is likeliest.
    return match.coherence - match.chaos + 0.1 * ("cp1252" in match.could_be_from_charset)
