"""Dev sets held back from pairs by whole groups: repositories, articles, anything that shares its wording.

Pairs of one repository resemble each other, so that a dev set drawn pair by pair would measure memory.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

from flatcoat.atomic_files import atomic_write

from .examples import plain


@dataclass(frozen=True)
class GroupedPair:
    """A query, a document that answers it, and the group that is held back or trained on as a whole."""

    query: str
    document: str
    group: str


@dataclass(frozen=True)
class HeldBack:
    """The size of a dev set: ``queries`` over ``documents``, at most ``per_group`` documents of a group.

    Groups of more than ``largest`` pairs stay in the training data.
    """

    queries: int = 300
    documents: int = 500
    per_group: int = 100
    largest: int = 1_200


def held_back_groups(pairs: Iterable[GroupedPair], size: HeldBack) -> set[str]:
    """Groups that together fill a dev set, in the order of the hashes of their names.

    >>> pairs = [GroupedPair("q", f"d{number}", f"g{number % 5}") for number in range(10)]
    >>> len(held_back_groups(pairs, HeldBack(documents=4)))
    2
    """
    sizes = Counter(pair.group for pair in pairs)
    chosen: set[str] = set()
    documents = 0
    for group in sorted(sizes, key=hashed):
        if documents >= size.documents:
            break
        if sizes[group] <= size.largest:
            chosen.add(group)
            documents += min(sizes[group], size.per_group)
    return chosen


def at_most_per_group(pairs: Iterable[GroupedPair], limit: int | None) -> Iterator[GroupedPair]:
    """The pairs whose hashes come first within their group, ``limit`` of each; all without a limit."""
    seen: Counter[str] = Counter()
    for pair in sorted(pairs, key=lambda pair: hashed(pair.query + pair.document)):
        seen[pair.group] += 1
        if limit is None or seen[pair.group] <= limit:
            yield pair


def write_dev_set(pairs: Iterable[GroupedPair], folder: Path, size: HeldBack) -> tuple[int, int]:
    """Write held-back pairs as a BEIR folder, split "dev"; the numbers of its queries and documents.

    A document that answers several queries stands there once, a query that stands with several documents has
    all of them as answers.
    """
    documents: dict[str, str] = {}
    queries: dict[str, str] = {}
    judgements: set[tuple[str, str]] = set()
    for pair in at_most_per_group(pairs, size.per_group):
        document, query = plain(pair.document), plain(pair.query)
        if document not in documents and len(documents) == size.documents:
            continue
        documents.setdefault(document, pair.document)
        if query in queries or len(queries) < size.queries:
            queries.setdefault(query, pair.query)
            judgements.add((query, document))
    _write_beir(folder, documents, queries, judgements)
    return len(queries), len(documents)


def hashed(text: str) -> str:
    """A digest that orders texts the same way everywhere, whatever came before them."""
    return sha1(text.encode(errors="replace")).hexdigest()


def _write_beir(
    folder: Path, documents: Mapping[str, str], queries: Mapping[str, str], judgements: set[tuple[str, str]]
) -> None:
    """Texts by key; ids are their numbers."""
    document_ids = {key: f"d{number}" for number, key in enumerate(documents, start=1)}
    query_ids = {key: f"q{number}" for number, key in enumerate(queries, start=1)}
    with atomic_write(folder) as unfinished:
        (unfinished / "qrels").mkdir(parents=True)
        corpus = ({"_id": document_ids[key], "title": "", "text": text} for key, text in documents.items())
        write_jsonl(unfinished / "corpus.jsonl", corpus)
        asked = ({"_id": query_ids[key], "text": text} for key, text in queries.items())
        write_jsonl(unfinished / "queries.jsonl", asked)
        lines = sorted(f"{query_ids[query]}\t{document_ids[document]}\t1\n" for query, document in judgements)
        with (unfinished / "qrels" / "dev.tsv").open("w", encoding="utf-8") as file:
            file.writelines(["query-id\tcorpus-id\tscore\n", *lines])


def write_jsonl(path: Path, rows: Iterable[Mapping[str, str]]) -> int:
    """Write rows as JSON lines; their number."""
    written = 0
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            written += 1
    return written
