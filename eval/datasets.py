"""Retrieval data sets: a corpus, queries, and judgements of what is relevant (qrels), from BEIR folders."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path
from random import Random
from typing import NamedTuple, Protocol, TypeAlias

from flatcoat.errors import DataError
from flatcoat.indexing.documents import Document
from flatcoat.indexing.reading.beir import BeirFolder
from flatcoat.indexing.reading.readers import read_documents

Qrels: TypeAlias = dict[str, dict[str, int]]
"""Query id -> document id -> grade."""


class Corpus(Protocol):
    """Documents in a fixed order, read anew in each iteration: memory need not hold them."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Document]: ...


@dataclass(frozen=True)
class RetrievalDataset:
    """One split of a data set; ``queries`` holds the texts of the judged queries by id.

    ``notices`` count documents, queries and judgements that were left out or look wrong. ``revision`` names
    the exact data: the hub's commit, or a hash of a folder's files. ``benchmark`` is the name of the data
    set's benchmark, or empty. ``self_hits`` are the queries whose own id must not be among their results.
    ``groups`` names sets of queries whose means are reported as well, such as kinds of questions.

    >>> corpus = [Document("sky", "Air scatters blue light.")]
    >>> data = RetrievalDataset("tiny", "test", corpus, {"q1": "why blue?"}, {"q1": {"sky": 1}})
    >>> len(data.documents), data.qrels["q1"]
    (1, {'sky': 1})
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
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)


Load: TypeAlias = Callable[[], RetrievalDataset]


class Survey(NamedTuple):
    """The findings of one pass over a corpus: numbers, except ``own``.

    ``missing`` judgements are of documents that the corpus lacks, ``blank`` queries have an empty text,
    ``hopeless`` ones no relevant document. ``own`` are the ids under which a query stands in the corpus word
    for word, as in ArguAna. The same id over another text, as in Cranfield where both count from 1, is a
    coincidence.
    """

    documents: int
    empty: int
    missing: int
    blank: int
    hopeless: int
    own: frozenset[str]

    def notices(self, about_missing: str) -> list[str]:
        """One sentence per finding that may lower measures; ``about_missing`` starts that of ``missing``."""
        return [
            *_count(self.empty, "documents have an empty text: kept"),
            *_count(self.blank, "queries have an empty text: kept"),
            *([f"{about_missing}: kept, counted as not found"] if self.missing else []),
            *_count(self.hopeless, "queries have no relevant document: kept, they score 0"),
        ]


@dataclass(frozen=True)
class BeirCorpus:
    """The corpus of a BEIR folder that was checked before and has ``count`` documents."""

    folder: BeirFolder
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Document]:
        return self.folder.documents(is_checked=True)


@dataclass(frozen=True)
class FolderCorpus:
    """The files of a folder, read as ``flatcoat index`` reads them; ``exclude`` is as there.

    A document's id is the path of its file. Files without text are left out.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "sky.md").write_text("The sky is blue.")
    >>> [document.id for document in FolderCorpus(folder)]
    ['sky.md']
    """

    folder: Path
    exclude: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Document]:
        return read_documents(self.folder, exclude=self.exclude, on_skip=lambda path, reason: None)

    @cached_property
    def _count(self) -> int:
        return sum(1 for _ in self)


def sample_queries(dataset: RetrievalDataset, number: int, *, seed: int = 0) -> RetrievalDataset:
    """The data set with ``number`` of its judged queries, drawn at random; unchanged where it has no more.

    The same ``seed`` draws the same queries on every machine, and is part of the ``revision``.

    >>> qrels = {query: {"sky": 1} for query in "abc"}
    >>> whole = RetrievalDataset("tiny", "test", [Document("sky", "Blue.")], dict.fromkeys("abc", "?"), qrels)
    >>> list(sample_queries(whole, 2, seed=1).queries)
    ['a', 'c']
    """
    if number >= len(dataset.queries):
        return dataset
    drawn = {*Random(seed).sample(sorted(dataset.queries), number)}
    return replace(
        dataset,
        queries={query: text for query, text in dataset.queries.items() if query in drawn},
        qrels={query: grades for query, grades in dataset.qrels.items() if query in drawn},
        groups={name: members & drawn for name, members in dataset.groups.items()},
        notices=[
            *dataset.notices,
            f"{number:,} of {len(dataset.queries):,} judged queries, drawn with seed {seed}",
        ],
        revision=f"{dataset.revision} queries={number} seed={seed}".strip(),
    )


def load_beir(path: Path, split: str | None = None) -> RetrievalDataset:
    """Check a BEIR folder; ``split`` is by default its only one, or "test".

    The corpus stays on disk: memory is bounded while it is checked, and holds none of it afterwards. A
    judgement of an unknown document stays and counts as never found; one of an unknown query is left out.
    Raises as ``BeirFolder`` does, and DataError where nothing is left to measure.
    """
    folder = BeirFolder(path)
    chosen = folder.read_split(split)
    qrels: Qrels = {}
    for judgement in chosen.judgements:
        qrels.setdefault(judgement.query, {})[judgement.document] = judgement.grade
    found = survey(folder.documents(), chosen.queries, qrels=qrels)
    if not found.documents:
        raise DataError(
            f"{path}: {folder.corpus_file.name} holds no documents, so there is nothing to measure"
        )
    notices = [
        *found.notices(folder.unknown_documents(found.missing)),
        *([folder.unknown_queries(chosen.unknown)] if chosen.unknown else []),
        *_count(chosen.unjudged, f"queries have no judgement in {chosen.name!r}: left out"),
    ]
    files = [folder.corpus_file, folder.queries_file, folder.qrels_file(chosen.name)]
    return RetrievalDataset(
        name=path.resolve().name,
        split=chosen.name,
        documents=BeirCorpus(folder, found.documents),
        queries=chosen.queries,
        qrels=qrels,
        notices=notices,
        revision=_hash_files(files),
        self_hits=found.own,
    )


def survey(documents: Iterable[Document], queries: Mapping[str, str], *, qrels: Qrels) -> Survey:
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
    unknown = sum(document in missing for grades in qrels.values() for document in grades)
    blank = sum(not text.strip() for text in queries.values())
    hopeless = sum(max(grades.values()) < 1 for grades in qrels.values())
    return Survey(number, empty, unknown, blank, hopeless, frozenset(own))


def _hash_files(files: Iterable[Path]) -> str:
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(file_digest(file, "sha256").digest())
    return sha256(b"".join(digests)).hexdigest()[:16]


def _count(number: int, sentence: str) -> list[str]:
    return [f"{number:,} {sentence}"] if number else []
