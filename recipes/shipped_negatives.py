"""Hard negatives for training the shipped model: what BM25 finds beside the answer, in the answer's own kind.

Without them the other documents of a batch are too easy, and a model unlearns to tell paragraphs of one
article apart. The first result in code and documentation is often an answer as well, so it is left out there;
what else is one by chance the teachers of the batch put right.
"""

from pathlib import Path

from flatcoat.indexing.bm25_baseline import Bm25
from flatcoat.retrieval.data.examples import write_examples
from flatcoat.retrieval.data.files import Collection
from flatcoat.retrieval.data.negatives import MiningCounts, MiningSettings, mine

_LAST_RANK = 30
_RARE = 800
_QUERIES = {
    "articles": 5_000,
    "code-c": 1_000,
    "code-cpp": 1_500,
    "code-csharp": 1_500,
    "code-go": 2_200,
    "code-java": 2_600,
    "code-javascript": 2_200,
    "code-php": 1_500,
    "code-python": 4_200,
    "code-ruby": 1_500,
    "code-rust": 1_800,
    "code-typescript": 1_800,
    "commands": 2_500,
    "docs": 7_000,
    "medical": 4_000,
    "shell": 5_000,
    "tasks": 5_000,
}
"""Queries drawn per kind, somewhat more than a run reads; _RARE of any other."""

_TRUSTED = ("articles", "medical", "shell", "tasks")
"""Kinds in which the first result beside the answer seldom answers."""


def write_negatives(kind: str, pairs: Path, output: Path) -> int:
    """Write rows of a query, its document and one negative for queries drawn from a file of pairs.

    Returns the number of rows. The same pairs give the same rows.
    """
    collection = Collection.read(pairs).sampled(_QUERIES.get(kind, _RARE))
    first = 1 if kind in _TRUSTED else 2
    settings = MiningSettings(count=1, first=first, last=_LAST_RANK, relative_margin=None)
    counts = MiningCounts()
    searcher = Bm25(collection.documents.items())
    write_examples(mine(collection, searcher, settings=settings, counts=counts), output)
    return counts.rows
