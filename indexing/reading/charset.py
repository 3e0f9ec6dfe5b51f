"""Bytes to text: by the byte order mark, else as UTF-8, else by the charset that chardet finds likeliest."""

import codecs
import logging
from itertools import islice

from flatcoat.errors import UsageError

from .extracted import Unreadable

logger = logging.getLogger(__name__)

_MARKS = {  # UTF-32's before UTF-16's, which begins alike
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
# Charsets of the web, of ISO and of old computers that texts are still found in; more draw wrong guesses.
_CHARSETS = (
    *(f"cp{page}" for page in (*range(1250, 1259), 850, 852, 866, 874, 932, 949)),
    *(f"iso8859-{part}" for part in (1, 2, 5, 6, 7, 8, 9, 15)),
    *("koi8-r", "koi8-u", "mac-roman"),
    *("shift_jis_2004", "euc_jis_2004", "iso2022_jp_2004", "gb18030", "big5hkscs"),
)
# What chardet calls by the name of another charset, which differs in some letters, is first read as these.
_COMMON = {
    "iso8859-1": "cp1252",
    "iso8859-8": "cp1255",
    "iso8859-9": "cp1254",
    "shift_jis_2004": "cp932",
    "euc_jis_2004": "euc_jp",
    "iso2022_jp_2004": "iso2022_jp",
    "big5hkscs": "big5",
}
_SAMPLE_LINES = 500
_SURE = 0.02  # chardet is rarely sure; of the guesses below this, every second one is wrong


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
    if b"\x1b$" in data and (text := _decoded(data, "iso2022_jp")) is not None:  # which is ASCII
        return text
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
    import chardet

    lines = (line for line in data.splitlines() if not line.isascii())
    sample = b"\n".join(islice(lines, _SAMPLE_LINES))
    found = chardet.detect(sample, compat_names=False, include_encodings=_CHARSETS)
    name = found["encoding"]
    if name is not None and found["confidence"] >= _SURE:
        for encoding in (_COMMON.get(name, name), name):
            if (text := _decoded(data, encoding)) is not None:
                return text
    raise Unreadable("unknown encoding")


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None
