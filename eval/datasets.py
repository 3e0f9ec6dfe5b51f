"""Retrieval data sets in BEIR's layout: a corpus, queries, and who judged what relevant.

    corpus.jsonl        {"_id", "title", "text"} a line; the title may be null or missing
    queries.jsonl       {"_id", "text"} a line; here and above, further fields are not read
    qrels/<split>.tsv   query-id, corpus-id, score (an integer), with or without that header

Source: https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.documents import Document

Qrels: TypeAlias = dict[str, dict[str, int]]
"""Query id -> document id -> grade."""

LAYOUT = "a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/<split>.tsv"
_HEADERS = {"query-id", "query_id", "query", "qid"}


class Corpus(Protocol):
    """Documents in a fixed order, read anew whenever they are iterated: memory need not hold them."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Document]: ...


@dataclass(frozen=True)
class RetrievalDataset:
    """One split of a data set: ``queries`` are those judged in it, id -> text.

    ``notices`` say, with counts, what was left out or looks wrong. ``revision`` names the exact data: the
    hub's commit, or a hash of a folder's files. ``benchmark`` is the one it is part of, or empty.
    ``self_hits`` are the queries whose own id must not be among their results.
    """

    name: str
    split: str
    documents: Corpus
    queries: dict[str, str]
    qrels: Qrels
    notices: list[str] = field(default_factory=list)
    revision: str = ""
    benchmark: str = ""
    self_hits: frozenset[str] = frozenset()


class Survey(NamedTuple):
    """What one pass over a corpus tells: ``missing`` counts judgements of documents that it lacks.

    ``own`` are the ids under which a query stands in the corpus word for word, as in ArguAna. The same id
    over another text, as in Cranfield where both count from 1, is a coincidence.
    """

    documents: int
    empty: int
    missing: int
    own: frozenset[str]


@dataclass(frozen=True)
class JsonlCorpus:
    """A ``corpus.jsonl`` that was checked before, and found to hold ``count`` documents."""

    path: Path
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Document]:
        return (document for _, document in _read_records(self.path))


def load_beir(folder: Path, split: str | None = None) -> RetrievalDataset:
    """Check a BEIR folder; without ``split``, the only one there or "test".

    The corpus stays on disk: memory holds its ids while it is checked, then none of it. A judgement of an
    unknown document stays and counts as never found; one of an unknown query is left out. Raises
    FlatcoatError for a missing file or split, a malformed line (named), a repeated id, or where nothing is
    left to measure.
    """
    if not folder.is_dir():
        raise FlatcoatError(f"{folder} is not a folder: {LAYOUT}")
    split = choose_split(folder, split)
    files = [folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels" / f"{split}.tsv"]
    corpus, asked, judgements = files
    texts = {query.id: query.text for query in _read_distinct(asked)}
    judged = _read_qrels(judgements)
    queries, qrels = match_queries(texts, judged, f"{folder}: no query is judged in {split!r}")
    found = survey(_read_distinct(corpus), queries, qrels)
    if not found.documents:
        raise FlatcoatError(f"{folder}: corpus.jsonl holds no documents, so there is nothing to measure")
    notices = [
        *notice_oddities(found, queries, qrels, "corpus.jsonl"),
        *_count(len(judged) - len(qrels), "judged queries are not in queries.jsonl: left out"),
        *_count(len(texts) - len(queries), f"queries have no judgement in {split!r}: left out"),
    ]
    documents = JsonlCorpus(corpus, found.documents)
    name, revision = folder.resolve().name, _hash_files(files)
    return RetrievalDataset(name, split, documents, queries, qrels, notices, revision, self_hits=found.own)


def match_queries(texts: Mapping[str, str], judged: Qrels, complaint: str) -> tuple[dict[str, str], Qrels]:
    """Queries with a text and a judgement, and their judgements; FlatcoatError where there is none."""
    queries = {query: text for query, text in texts.items() if query in judged}
    if not queries:
        raise FlatcoatError(f"{complaint}, so there is nothing to measure")
    return queries, {query: grades for query, grades in judged.items() if query in queries}


def survey(documents: Iterable[Document], queries: Mapping[str, str], qrels: Qrels) -> Survey:
    """Look at every document once, remembering none."""
    missing = {document for grades in qrels.values() for document in grades}
    own = set()
    number = empty = 0
    for document in documents:
        number += 1
        empty += not document.text.strip()
        missing.discard(document.id)
        if document.id in queries and queries[document.id].split() == document.text.split():
            own.add(document.id)
    unfound = sum(document in missing for grades in qrels.values() for document in grades)
    return Survey(number, empty, unfound, frozenset(own))


def notice_oddities(found: Survey, queries: Mapping[str, str], qrels: Qrels, corpus: str) -> list[str]:
    """What measures may suffer from, a sentence each."""
    blank = sum(not text.strip() for text in queries.values())
    hopeless = sum(max(grades.values()) < 1 for grades in qrels.values())
    return [
        *_count(found.empty, "documents have an empty text: kept"),
        *_count(blank, "queries have an empty text: kept"),
        *_count(
            found.missing, f"judgements name documents that are not in {corpus}: kept, counted as not found"
        ),
        *_count(hopeless, "queries have no relevant document: kept, they score 0"),
    ]


def _hash_files(files: Iterable[Path]) -> str:
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(file_digest(file, "sha256").digest())
    return sha256(b"".join(digests)).hexdigest()[:16]


def choose_split(folder: Path, split: str | None) -> str:
    """The split that ``load_beir`` reads; FlatcoatError, naming those there, where it is not one of them."""
    splits = sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))
    if not splits:
        raise FlatcoatError(f"{folder / 'qrels'} holds no .tsv file: {LAYOUT}")
    if split is None:
        split = splits[0] if len(splits) == 1 else "test"
    if split not in splits:
        raise FlatcoatError(f"{folder} has no split {split!r}: choose one of {', '.join(splits)}")
    return split


def _count(number: int, sentence: str) -> list[str]:
    return [f"{number:,} {sentence}"] if number else []


def _read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines that are not blank, each with the place to name in an error."""
    if not path.is_file():
        raise FlatcoatError(f"{path} is missing: {LAYOUT}")
    with path.open(encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}:{number}", line
        except UnicodeDecodeError as error:
            raise FlatcoatError(f"{path} is not UTF-8: {error}") from None


def _read_distinct(path: Path) -> Iterator[Document]:
    seen: set[str] = set()
    for place, document in _read_records(path):
        if document.id in seen:
            raise FlatcoatError(f"{place} repeats the id {document.id!r}: ids must differ")
        seen.add(document.id)
        yield document


def _read_records(path: Path) -> Iterator[tuple[str, Document]]:
    """Corpus and query lines alike, each with the place to name in an error."""
    for place, line in _read_lines(path):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise FlatcoatError(f"{place} is not JSON: {error.msg} at column {error.colno}") from None
        if (
            not isinstance(record, dict)
            or not isinstance(record.get("_id"), str | int)
            or "text" not in record
        ):
            raise FlatcoatError(f'{place} needs an object with "_id" (a string) and "text"')
        text, title = record["text"] or "", record.get("title") or ""
        if not isinstance(text, str) or not isinstance(title, str):
            raise FlatcoatError(f'{place}: "text" and "title" must be strings')
        yield place, Document(str(record["_id"]), text, title)


def _read_qrels(path: Path) -> Qrels:
    qrels: Qrels = {}
    for position, (place, line) in enumerate(_read_lines(path)):
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) != 3:
            raise FlatcoatError(
                f"{place} has {len(columns)} columns: query-id, corpus-id, score wanted, tabs between"
            )
        query, document, score = columns
        if position == 0 and query.lower() in _HEADERS:
            continue
        try:
            grade = int(score)
        except ValueError:
            raise FlatcoatError(f"{place}: the score {score!r} is not an integer") from None
        if qrels.setdefault(query, {}).setdefault(document, grade) != grade:
            raise FlatcoatError(
                f"{place} judges query {query!r} and document {document!r} again, differently"
            )
    return qrels
