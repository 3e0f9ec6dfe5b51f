"""The BM25 baseline of evaluation and negative mining, by bm25s: not the BM25 of an index (``Store.bm25``).

``flatcoat search --mode bm25`` and hybrid search rank by the postings of an index (``bm25``).

BM25 as in Lucene with k1 1.5 and b 0.75, English stop words and Porter's stemmer: the published bm25s rows
(https://github.com/xhluca/bm25s) use the same with Snowball, and NFCorpus comes out at their 32.1 nDCG@10.
"""

from collections.abc import Iterable, Iterator, Sequence

import bm25s
import numpy as np
import Stemmer
from bm25s.tokenization import Tokenized

from .top_k import reaching
from .vectors import Hits

SETTINGS = {"method": "lucene", "k1": 1.5, "b": 0.75}
STOP_WORDS, STEMMER = "english", "porter"


class Bm25:
    """The baseline's in-memory index of texts, which are read once and not kept.

    >>> index = Bm25([("a", "cats purr"), ("b", "dogs bark")])
    >>> [hits.ids for hits in index.search(["a purring cat"], 10)]
    [['a']]
    """

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        """``texts`` are pairs of an id and a text."""
        ids: list[str] = []

        def seen() -> Iterator[str]:
            for id, text in texts:
                ids.append(id)
                yield text

        tokens = _tokenize(seen())
        self._ids = ids
        self._index = bm25s.BM25(**SETTINGS, backend="numpy")
        self._words = set(tokens.vocab)
        if self._words:
            self._index.index(tokens, show_progress=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the index, without document ids and words."""
        parts = ("data", "indices", "indptr") if self._words else ()
        return sum(self._index.scores[part].nbytes for part in parts)

    def search(self, queries: Sequence[str], k: int) -> Iterator[Hits[str]]:
        """The ``k`` best documents per query, among the documents that share a word with it.

        Equal scores are in the falling order of their ids.
        """
        tokens = _tokenize(queries)
        words = {number: word for word, number in tokens.vocab.items()}
        for numbers in tokens.ids:
            known = [words[number] for number in numbers if words[number] in self._words]
            yield self._best(known, k) if known else Hits([], np.zeros(0, dtype=np.float32))

    def _best(self, words: list[str], k: int) -> Hits[str]:
        scores_N = self._index.get_scores(words)
        found = np.flatnonzero(scores_N > 0)
        found = found[reaching(scores_N[found], k)]
        order = sorted(found.tolist(), key=lambda row: (scores_N[row], self._ids[row]), reverse=True)[:k]
        return Hits([self._ids[row] for row in order], scores_N[order])


def _tokenize(texts: Iterable[str]) -> Tokenized:
    stem = Stemmer.Stemmer(STEMMER).stemWords
    tokens = bm25s.tokenize(texts, stopwords=STOP_WORDS, stemmer=stem, show_progress=False)  # type: ignore[arg-type]
    assert isinstance(tokens, Tokenized)
    return tokens
