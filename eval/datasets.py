"""Retrieval data sets in BEIR's layout: a corpus, queries, and who judged what relevant.

    corpus.jsonl        {"_id", "title", "text"} a line; the title may be null or missing
    queries.jsonl       {"_id", "text"} a line; here and above, further fields are not read
    qrels/<split>.tsv   query-id, corpus-id, score (an integer), with or without that header

Source: https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .. import FlatcoatError
from ..indexing.documents import Document

LAYOUT = "a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/<split>.tsv"
_HEADERS = {"query-id", "query_id", "query", "qid"}


@dataclass(frozen=True)
class RetrievalDataset:
    """One split of a data set: ``queries`` are those judged in it, id -> text.

    ``qrels`` are query id -> document id -> grade. ``notices`` say, with counts, what was left out or looks
    wrong.
    """

    name: str
    split: str
    documents: list[Document]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    notices: list[str] = field(default_factory=list)

    def self_documents(self) -> set[str]:
        """Ids under which a query stands in the corpus word for word, as in ArguAna.

        The same id over another text, as in Cranfield where both count from 1, is a coincidence.
        """
        return {
            document.id
            for document in self.documents
            if document.id in self.queries and self.queries[document.id].split() == document.text.split()
        }


def load_beir(folder: Path, split: str | None = None) -> RetrievalDataset:
    """Read a BEIR folder; without ``split``, the only one there or "test".

    A judgement of an unknown document stays and counts as never found; one of an unknown query is left out.
    Raises FlatcoatError for a missing file or split, a malformed line (named), a repeated id, or where
    nothing is left to measure.
    """
    if not folder.is_dir():
        raise FlatcoatError(f"{folder} is not a folder: {LAYOUT}")
    split = _choose_split(folder, split)
    documents = list(_read_records(folder / "corpus.jsonl"))
    texts = {query.id: query.text for query in _read_records(folder / "queries.jsonl")}
    judged = _read_qrels(folder / "qrels" / f"{split}.tsv")
    qrels = {query: grades for query, grades in judged.items() if query in texts}
    if not documents or not qrels:
        missing = "corpus.jsonl holds no documents" if not documents else f"no query is judged in {split!r}"
        raise FlatcoatError(f"{folder}: {missing}, so there is nothing to measure")
    queries = {query: text for query, text in texts.items() if query in qrels}
    notices = _notice_oddities(documents, queries, qrels)
    notices += _count(len(judged) - len(qrels), "judged queries are not in queries.jsonl: left out")
    notices += _count(len(texts) - len(queries), f"queries have no judgement in {split!r}: left out")
    return RetrievalDataset(folder.resolve().name, split, documents, queries, qrels, notices)


def _choose_split(folder: Path, split: str | None) -> str:
    splits = sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))
    if not splits:
        raise FlatcoatError(f"{folder / 'qrels'} holds no .tsv file: {LAYOUT}")
    if split is None:
        split = splits[0] if len(splits) == 1 else "test"
    if split not in splits:
        raise FlatcoatError(f"{folder} has no split {split!r}: choose one of {', '.join(splits)}")
    return split


def _notice_oddities(
    documents: list[Document], queries: dict[str, str], qrels: dict[str, dict[str, int]]
) -> list[str]:
    known = {document.id for document in documents}
    unknown = sum(document not in known for grades in qrels.values() for document in grades)
    hopeless = sum(max(grades.values()) < 1 for grades in qrels.values())
    return [
        *_count(
            sum(not document.text.strip() for document in documents), "documents have an empty text: kept"
        ),
        *_count(sum(not text.strip() for text in queries.values()), "queries have an empty text: kept"),
        *_count(
            unknown, "judgements name documents that are not in corpus.jsonl: kept, counted as not found"
        ),
        *_count(hopeless, "queries have no relevant document: kept, they score 0"),
    ]


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


def _read_records(path: Path) -> Iterator[Document]:
    """Corpus and query lines alike."""
    seen: set[str] = set()
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
        document = Document(str(record["_id"]), text, title)
        if document.id in seen:
            raise FlatcoatError(f"{place} repeats the id {document.id!r}: ids must differ")
        seen.add(document.id)
        yield document


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
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
