"""Checksums of what the database holds: a flipped bit in a row does not go unfound."""

import json
import sqlite3
import zlib
from typing import TypeAlias

Value: TypeAlias = str | int | float | bytes | None

_DOCUMENT = "SELECT id, title, hash, metadata, source, name, state, digest FROM documents WHERE key = ?"
# Not the segment, to which a merge gives another number: the segment's own rows say what is in it.
_PASSAGES = """
    SELECT row, vectors, first_line, last_line, title, section, text, parts
    FROM passages JOIN texts ON texts.rowid = row WHERE document = ? ORDER BY row
"""


def row_checksum(*values: Value) -> int:
    """CRC-32 of the values of one row."""
    crc = 0
    for value in values:
        # JSON tells types and ends of values apart, and is the same in every version of Python.
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        crc = zlib.crc32(b"%d:" % len(data), crc)
        crc = zlib.crc32(data, crc)
    return crc


def document_checksum(connection: sqlite3.Connection, key: int) -> int:
    """CRC-32 of a document and its passages as the database holds them; KeyError where there is none."""
    document = connection.execute(_DOCUMENT, [key]).fetchone()
    if document is None:
        raise KeyError(key)
    passages = connection.execute(_PASSAGES, [key]).fetchall()
    return row_checksum(*document, *(value for passage in passages for value in passage))
