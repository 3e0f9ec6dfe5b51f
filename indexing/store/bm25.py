"""BM25 over the passages of an index, by the full-text search of SQLite (FTS5)."""

import sqlite3
from typing import Any

import numpy as np

from flatcoat.indexing.terms import query_words
from flatcoat.indexing.vectors import Hits

from .schema import json_of

_MOST_HITS = 2**63 - 1
_WIDEST_TABLE = 1 << 26  # from the first to the last row


def search(
    connection: sqlite3.Connection, query: str, k: int, *, rows: np.ndarray | None = None
) -> Hits[int]:
    """The best ``k`` passages (ids are rows) that share a term with ``query``, among ``rows`` if given.

    Scores are FTS5's Okapi BM25 (k1 1.2, b 0.75) over title, section, text and the parts of camelCase words,
    English words stemmed, positive, larger is better. Stop words count only in a query of nothing else.
    """
    terms = query_words(query)
    allowed, values = ("1", []) if rows is None else among(rows)
    match = " OR ".join(f'"{term}"' for term in terms)
    sql = f"""
        SELECT rowid, -bm25(texts) AS score FROM texts WHERE texts MATCH ? AND {allowed}
        ORDER BY score DESC, rowid LIMIT ?
    """
    most = min(max(k, 0), _MOST_HITS)
    found = connection.execute(sql, [match, *values, most]).fetchall() if terms else []
    return Hits([row for row, _ in found], np.array([score for _, score in found], dtype=np.float32))


def coverage(connection: sqlite3.Connection, query: str, row: int) -> float:
    """The share (0 to 1) of the terms of ``query`` that the passage ``row`` has; 0 where it has no terms."""
    terms = query_words(query)
    sql = "SELECT EXISTS (SELECT 1 FROM texts WHERE texts MATCH ? AND rowid = ?)"
    found = sum(connection.execute(sql, [f'"{term}"', row]).fetchone()[0] for term in terms)
    return found / len(terms) if terms else 0.0


def among(rows: np.ndarray) -> tuple[str, list[Any]]:
    """SQL that holds where FTS5's ``rowid`` is one of ``rows``, and the values it binds.

    A table of bytes tells at once. With ``rowid IN``, less the +, SQLite would hand each row to FTS5, which
    would answer the query anew for each.
    """
    if not len(rows):
        return "0", []
    first, last = int(rows.min()), int(rows.max())
    if last - first > _WIDEST_TABLE:
        return "+rowid IN (SELECT value FROM json_each(?))", [json_of(rows)]
    table = np.zeros(last - first + 1, np.uint8)
    table[rows - first] = 1
    condition = "rowid BETWEEN ? AND ? AND substr(?, rowid - ?, 1) = x'01'"
    return condition, [first, last, table.data, first - 1]
