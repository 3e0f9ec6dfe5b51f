"""BEIR folders: a corpus, queries, and judgements (qrels), read by the same rules wherever they are used.

    corpus.jsonl        {"_id", "title", "text"} per line; the title may be null or missing
    queries.jsonl       {"_id", "text"} per line; further fields are metadata of documents, else unused
    qrels/<split>.tsv   query-id, corpus-id, score per line, with or without a header

Each file may be gzipped (.gz). Ids are texts or whole numbers (1.0 is 1), scores whole numbers (1.0 too), and
quotes in .tsv are characters. Errors are a missing file or split, a line that cannot be read, an id that
comes twice, and a pair that is judged twice and differently. A judgement of a query or document that is not
there is counted and left out; it is for the caller to say so. Only indexing differs: it skips bad lines and
repeated ids, and reports each.

Source: https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
"""

import os
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

from flatcoat.errors import DataError, FlatcoatError, NotFoundError
from flatcoat.indexing.documents import Document, normalized

from .columns import Columns, document_of, id_of
from .csv import Record, tsv_records
from .jsonl import json_rows
from .row import RowResult, require_rows
from .seen_ids import SeenIds

LAYOUT = "a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/<split>.tsv"

_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz")
_QUERIES = ("queries.jsonl", "queries.jsonl.gz")
_QRELS = "qrels"
_SUFFIXES = (".tsv", ".tsv.gz")
_HEADERS = {"query-id", "query_id", "query", "qid"}  # the first cell of a header
_COLUMNS = Columns(metadata=())


class Judgement(NamedTuple):
    """How relevant a document is for a query (0 is not), and the line that says so, as "FILE:3"."""

    place: str
    query: str
    document: str
    grade: int


class Split(NamedTuple):
    """The queries of a split that have a text (id to text), and their judgements in the order of the file.

    ``unknown`` counts judged queries that are not in queries.jsonl, ``unjudged`` those only there.
    """

    name: str
    queries: dict[str, str]
    judgements: list[Judgement]
    unknown: int
    unjudged: int


@dataclass(frozen=True)
class BeirFolder:
    """A folder in BEIR's layout. Raises NotFoundError where ``path`` is no folder.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp())
    >>> (path / "qrels").mkdir()
    >>> for name, text in {
    ...     "corpus.jsonl": '{"_id": "sky", "text": "Air scatters blue light."}',
    ...     "queries.jsonl": '{"_id": "q1", "text": "why is the sky blue?"}',
    ...     "qrels/test.tsv": "q1\\tsky\\t1",
    ... }.items():
    ...     _ = (path / name).write_text(text)
    >>> folder = BeirFolder(path)
    >>> split = folder.read_split("test")
    >>> split.queries
    {'q1': 'why is the sky blue?'}
    >>> [(judgement.query, judgement.document, judgement.grade) for judgement in split.judgements]
    [('q1', 'sky', 1)]
    >>> [document.text for document in folder.documents()]
    ['Air scatters blue light.']
    """

    path: Path

    def __post_init__(self) -> None:
        if not _is(self.path, S_ISDIR):
            raise NotFoundError(f"{self.path} is not a folder: {LAYOUT}")

    @property
    def corpus_file(self) -> Path:
        """The file of the documents, there or not."""
        return self._file(_CORPUS)

    @property
    def queries_file(self) -> Path:
        """The file of the queries, there or not."""
        return self._file(_QUERIES)

    def qrels_file(self, split: str) -> Path:
        """The file of a split's judgements, there or not."""
        return self._file([f"{_QRELS}/{split}{suffix}" for suffix in _SUFFIXES])

    def splits(self) -> list[str]:
        """The names of all splits, sorted."""
        files = [path.name for path in (self.path / _QRELS).glob("*")]
        return sorted({name.removesuffix(".gz")[:-4] for name in files if name.endswith(_SUFFIXES)})

    def choose_split(self, split: str | None = None) -> str:
        """``split``, by default the only one or "test"; NotFoundError where it is not there."""
        splits = self.splits()
        if not splits:
            raise NotFoundError(f"{self.path / _QRELS} holds no .tsv file: {LAYOUT}")
        if split is None:
            split = splits[0] if len(splits) == 1 else "test"
        if split not in splits:
            raise NotFoundError(f"{self.path} has no split {split!r}: choose one of {', '.join(splits)}")
        return split

    def documents(
        self, among: Container[str] | None = None, *, is_checked: bool = False
    ) -> Iterator[Document]:
        """The documents, one at a time, without metadata; only those whose ids are ``among``, if given.

        A corpus that ``is_checked`` was read before: repeated ids are not looked for again.
        """
        return _documents(self.corpus_file, among, is_checked)

    def queries(self) -> dict[str, str]:
        """The texts of all queries by id."""
        return {query.id: query.text for query in _documents(self.queries_file, None, False)}

    def read_split(self, split: str | None = None) -> Split:
        """The queries and judgements of a split (``choose_split``); DataError where no query is judged."""
        name = self.choose_split(split)
        texts, judgements = self.queries(), list(_judgements(self.qrels_file(name)))
        judged = {judgement.query for judgement in judgements}
        queries = {query: text for query, text in texts.items() if query in judged}
        if not queries:
            counted = f"{len(texts):,} in {self.queries_file.name}"
            raise DataError(f"{self.path}: no query is judged in {name!r}, of {counted}")
        known = [judgement for judgement in judgements if judgement.query in queries]
        return Split(name, queries, known, len(judged) - len(queries), len(texts) - len(queries))

    def unknown_queries(self, number: int) -> str:
        """The notice about ``number`` judged queries without a text."""
        return f"{number:,} judged queries are not in {self.queries_file.name}: left out"

    def unknown_documents(self, number: int) -> str:
        """The notice about ``number`` judgements of unknown documents, without what becomes of them."""
        return f"{number:,} judgements name documents that are not in {self.corpus_file.name}"

    def _file(self, names: tuple[str, ...] | list[str]) -> Path:
        paths = [self.path / name for name in names]
        return next((path for path in paths if _is(path, S_ISREG)), paths[0])


def is_beir(folder: Path) -> bool:
    """Whether a folder is a BEIR collection: queries.jsonl or a folder qrels stand beside corpus.jsonl."""
    is_collection = _is(folder / _QRELS, S_ISDIR) or any(_is(folder / name, S_ISREG) for name in _QUERIES)
    return is_collection and any(_is(folder / name, S_ISREG) for name in _CORPUS)


def corpus_rows(folder: BeirFolder, encoding: str | None = None) -> Iterator[RowResult]:
    """The rows of the corpus with all their fields, bad ones and repeated ids too: for an index."""
    return json_rows(folder.corpus_file, encoding, allow_nan=True)


def other_files(folder: BeirFolder) -> list[str]:
    """The names in a folder that are no part of the collection, with a slash after folders; sorted."""
    parts = {folder.corpus_file.name, _QRELS, *_QUERIES}
    with os.scandir(folder.path) as entries:
        return sorted(entry.name + "/" * entry.is_dir() for entry in entries if entry.name not in parts)


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether there is something of this ``kind``, as far as one may look."""
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _require_file(path: Path) -> None:
    if not _is(path, S_ISREG):
        raise NotFoundError(f"{path} is missing: {LAYOUT}")


def _documents(path: Path, among: Container[str] | None, is_checked: bool) -> Iterator[Document]:
    _require_file(path)
    seen = None if is_checked else SeenIds()
    for row in require_rows(path, json_rows(path, allow_nan=True)):
        try:
            id = normalized(id_of(row.values))
            if seen is not None and not seen.add(id):
                raise ValueError(f"repeats the id {id!r}: ids must differ")
            document = document_of(row.values, _COLUMNS, id=id) if among is None or id in among else None
        except (ValueError, FlatcoatError) as error:
            raise DataError(f"{row.place}: {error}") from None
        if document is not None:
            yield document


def _judgements(path: Path) -> Iterator[Judgement]:
    _require_file(path)
    grades: dict[tuple[str, str], int] = {}
    for position, record in enumerate(require_rows(path, tsv_records(path))):
        cells = [normalized(cell.strip()) for cell in record.cells]
        if not any(cells) or (position == 0 and cells[0].lower().removeprefix("\ufeff") in _HEADERS):
            continue
        judgement = _judgement(record, cells)
        pair = judgement.query, judgement.document
        if pair not in grades:
            yield judgement
        elif grades[pair] != judgement.grade:
            query, document = pair
            raise DataError(
                f"{record.place} judges query {query!r} and document {document!r} again, differently"
            )
        grades[pair] = judgement.grade


def _judgement(record: Record, cells: list[str]) -> Judgement:
    if len(cells) != 3:
        raise DataError(
            f"{record.place} has {len(cells)} columns: query-id, corpus-id, score wanted, tabs between"
        )
    query, document, score = cells
    try:
        grade = float(score)
    except ValueError:
        grade = float("nan")
    if not grade.is_integer():
        raise DataError(f"{record.place}: the score {score!r} is not an integer")
    return Judgement(record.place, query, document, int(grade))
