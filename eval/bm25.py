"""The lexical baseline that every encoder has to beat.

BM25 as in Lucene with k1 1.5 and b 0.75, English stop words and Porter's stemmer: the published bm25s rows
(https://github.com/xhluca/bm25s) use the same with Snowball, and NFCorpus comes out at their 32.1 nDCG@10.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

import bm25s
import numpy as np
from bm25s.tokenization import Tokenized

from ..indexing.types import Hits


class Bm25:
    """An in-memory BM25 index over texts, one id each."""

    name = "BM25"

    def __init__(self, ids: Sequence[str], texts: Sequence[str]) -> None:
        self._ids = list(ids)
        self._index = bm25s.BM25(k1=1.5, b=0.75, method="lucene", backend="numpy")
        tokens = _tokenize(texts)
        self._empty = not tokens.vocab
        if not self._empty:
            self._index.index(tokens, show_progress=False)

    def search(self, queries: Sequence[str], k: int) -> list[Hits]:
        """The up to ``k`` best documents of each query, of those that share a word with it."""
        if self._empty or not queries:
            return [Hits([], np.zeros(0, dtype=np.float32)) for _ in queries]
        depth = min(k, len(self._ids))
        rows_QN, scores_QN = self._index.retrieve(
            _tokenize(queries), k=depth, show_progress=False, backend_selection="numpy"
        )
        found_QN = scores_QN > 0
        return [
            Hits([self._ids[row] for row in rows[found]], scores[found])
            for rows, scores, found in zip(rows_QN, scores_QN, found_QN, strict=True)
        ]


def _tokenize(texts: Sequence[str]) -> Tokenized:
    tokens = bm25s.tokenize(list(texts), stopwords="english", stemmer=_stem, show_progress=False)
    assert isinstance(tokens, Tokenized)
    return tokens


def _stem(words: list[str]) -> list[str]:
    """Porter stems from SQLite's own stemmer (https://sqlite.org/fts5.html), which costs no dependency."""
    with closing(sqlite3.connect(":memory:")) as database:
        # the underscore belongs to a word here as it does in bm25s' pattern \w\w+
        tokenizer = "porter unicode61 remove_diacritics 0 tokenchars '_'"
        database.execute(f'CREATE VIRTUAL TABLE words USING fts5(word, tokenize="{tokenizer}")')
        database.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(words, 'instance')")
        database.executemany("INSERT INTO words(rowid, word) VALUES (?, ?)", enumerate(words))
        stems = dict(database.execute("SELECT doc, term FROM terms ORDER BY doc, offset DESC"))
    return [stems.get(row, word) for row, word in enumerate(words)]
