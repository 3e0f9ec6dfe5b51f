"""A BEIR folder means the same to whoever reads it: index, eval, mine and train."""

import gzip
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flatcoat.errors import DataError, NotFoundError
from flatcoat.eval.benchmarks import load_tasks
from flatcoat.eval.datasets import load_beir
from flatcoat.indexing.documents import Document, Passage, normalized
from flatcoat.indexing.reading.beir import BeirFolder
from flatcoat.indexing.reading.readers import read_documents
from flatcoat.indexing.reading.rows import is_rows
from flatcoat.retrieval.data.dataset import load_source
from flatcoat.retrieval.data.files import Collection, Pair, beir_pairs
from flatcoat.retrieval.data.source import Source

SKY, GRASS, SNOW, COLOURS = "Sky Blue light scatters.", "Grass is green.", "Snow is white.", "colours"
QUERIES = {"q1": "why blue?", "q2": COLOURS}
DOCUMENTS = {"d1": SKY, "d2": GRASS, "d3": SNOW}
QRELS = {"q2": {"d2": 1, "d3": 1}, "q1": {"d1": 2, "d2": 0}}
PAIRS = [Pair(COLOURS, GRASS), Pair("why blue?", SKY), Pair(COLOURS, SNOW)]


class Files(NamedTuple):
    """The content of a folder's files before it is written."""

    corpus: bytes
    queries: bytes
    qrels: bytes


def jsonl(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


PLAIN = Files(
    corpus=jsonl(
        {"_id": "d1", "title": "Sky", "text": "Blue light scatters."},
        {"_id": "d2", "title": "", "text": GRASS},
        {"_id": "d3", "title": None, "text": SNOW},
    ),
    queries=jsonl(*({"_id": id, "text": text} for id, text in QUERIES.items())),
    qrels=b"query-id\tcorpus-id\tscore\nq2\td2\t1\nq1\td1\t2\nq1\td2\t0\nq2\td3\t1\n",
)


def each(change: Callable[[bytes], bytes]) -> Files:
    return Files(*map(change, PLAIN))


def with_header(header: bytes) -> Files:
    return PLAIN._replace(qrels=header + PLAIN.qrels.partition(b"\n")[2])


def in_corpus(old: bytes, new: bytes) -> Files:
    assert old in PLAIN.corpus
    return PLAIN._replace(corpus=PLAIN.corpus.replace(old, new))


def in_qrels(old: bytes, new: bytes) -> Files:
    assert old in PLAIN.qrels
    return PLAIN._replace(qrels=PLAIN.qrels.replace(old, new))


VARIANTS = {
    "plain": PLAIN,
    "byte order marks": each(lambda data: b"\xef\xbb\xbf" + data),
    "CRLF": each(lambda data: data.replace(b"\n", b"\r\n")),
    "blank lines": each(lambda data: b"\n\n" + data.replace(b"\n", b"\n \t \n\n")),
    "no last line end": each(lambda data: data.rstrip()),
    "UTF-16": each(lambda data: data.decode().encode("utf-16")),
    "no header": with_header(b""),
    "header with underscores": with_header(b"query_id\tcorpus_id\tscore\n"),
    "short header": with_header(b"qid\tdid\trel\n"),
    "header in capitals": with_header(b"Query-ID\tCorpus-ID\tScore\r\n"),
    "marked header": with_header(b"\xef\xbb\xbfquery\tdoc\tgrade\n"),
    "float grades": in_qrels(b"\t1\n", b"\t1.0\n"),
    "spaces around cells": in_qrels(b"\t", b" \t "),
    "a judgement twice": PLAIN._replace(qrels=PLAIN.qrels + b"q2\td2\t1\n"),
    "no titles": in_corpus(b'"title": "", ', b"")._replace(qrels=PLAIN.qrels),
    "nested metadata": in_corpus(b'"_id": "d1"', b'"metadata": {"a": {"b": [1]}}, "tags": [1], "_id": "d1"'),
    "a number that is none": in_corpus(b'"_id": "d1"', b'"price": NaN, "_id": "d1"'),
    "id for _id": in_corpus(b'"_id"', b'"id"'),
    "queries with titles of null": PLAIN._replace(queries=PLAIN.queries.replace(b"}", b', "title": null}')),
}


def write(folder: Path, files: Files, suffix: str = "") -> Path:
    (folder / "qrels").mkdir(parents=True)
    pack = gzip.compress if suffix else bytes
    for name, data in zip(("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"), files, strict=True):
        (folder / (name + suffix)).write_bytes(pack(data))
    return folder


def searchable(document: Document) -> str:
    return Passage(document.id, document.text, document.title).searchable


def require_the_same(folder: Path) -> None:
    """All users read the documents, queries and judgements above, and leave nothing out."""
    assert is_rows(folder)
    skipped: list[tuple[str, str]] = []
    indexed = list(read_documents(folder, on_skip=lambda *skip: skipped.append(skip)))
    assert {document.id: searchable(document) for document in indexed} == DOCUMENTS
    assert not skipped
    (dataset,) = load_tasks([str(folder)])
    assert dataset == load_beir(folder, "train")
    assert {document.id: searchable(document) for document in dataset.documents} == DOCUMENTS
    assert (dataset.queries, dataset.qrels, dataset.notices) == (QUERIES, QRELS, [])
    collection = Collection.read(folder)
    assert (collection.documents, collection.queries) == (DOCUMENTS, QUERIES)
    assert collection.positives == {"q2": ["d2", "d3"], "q1": ["d1"]}
    assert list(beir_pairs(folder, "train")) == PAIRS


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_user_reads_every_variant_alike(
    tmp_path: Path, variant: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        require_the_same(write(tmp_path / "colours", VARIANTS[variant], suffix))
    assert not caplog.records


def test_training_rows_are_the_same_pairs(tmp_path: Path) -> None:
    folder = write(tmp_path / "colours", VARIANTS["float grades"], ".gz")
    rows = load_source(Source(beir=folder), tmp_path, folder=tmp_path / "arrow", places=True)
    assert [(row["query"], row["document"]) for row in rows] == [
        (pair.query, pair.document) for pair in PAIRS
    ]
    assert [row["place"] for row in rows] == [f"{folder}/qrels/train.tsv.gz:{line}" for line in (2, 3, 5)]


@pytest.mark.parametrize(
    "id", ["a:b", 'say "hi"', '"quoted"', "two words", "Zoe\u0308", "#1", "q'", "-1", "7"]
)
def test_ids_of_odd_characters_meet(tmp_path: Path, id: str) -> None:
    files = Files(
        jsonl({"_id": int(id) if id == "7" else id, "text": SNOW}),
        jsonl({"_id": id, "text": COLOURS}),
        f"{id}\t{id}\t1\n".encode(),
    )
    folder, id = write(tmp_path / "odd", files), normalized(id)
    assert [document.id for document in read_documents(folder)] == [id]
    assert load_beir(folder).qrels == {id: {id: 1}}
    assert Collection.read(folder).positives == {id: [id]}
    assert list(beir_pairs(folder, "train")) == [Pair(COLOURS, SNOW)]


def test_an_id_with_a_tab_is_a_document_that_no_tsv_can_judge(tmp_path: Path) -> None:
    files = in_corpus(b'"d2"', b'"d\\t2"')._replace(qrels=b"q1\td1\t1\n")
    folder = write(tmp_path / "odd", files)
    assert [document.id for document in load_beir(folder).documents] == ["d1", "d\t2", "d3"]
    assert list(Collection.read(folder).documents) == ["d1", "d\t2", "d3"]


def test_judgements_of_unknown_ids_are_counted_by_every_user(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    qrels = PLAIN.qrels + b"q1\tlost\t1\nq2\tgone\t1\nghost\td1\t1\n"
    folder = write(tmp_path / "colours", PLAIN._replace(qrels=qrels))
    documents = "2 judgements name documents that are not in corpus.jsonl"
    queries = "1 judged queries are not in queries.jsonl: left out"
    dataset = load_beir(folder)
    assert dataset.notices == [f"{documents}: kept, counted as not found", queries]
    assert dataset.qrels == {"q2": QRELS["q2"] | {"gone": 1}, "q1": QRELS["q1"] | {"lost": 1}}
    for read in (lambda: list(beir_pairs(folder, "train")), lambda: Collection.read(folder)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = read()
        assert found == (PAIRS if isinstance(found, list) else Collection.read(folder))
        assert [record.getMessage() for record in caplog.records[:2]] == [
            f"{folder}: {queries}",
            f"{folder}: {documents}: left out",
        ]


BROKEN = {
    "a repeated id": (in_corpus(b'"d2"', b'"d1"'), r"corpus\.jsonl:2: repeats the id 'd1': ids must differ"),
    "no JSON": (in_corpus(b'"d2",', b'"d2"'), r"corpus\.jsonl:2: not JSON"),
    "no object": (PLAIN._replace(queries=b"[]\n"), r"queries\.jsonl:1: not a JSON object: \[\]"),
    "no id": (in_corpus(b'"_id": "d2", ', b""), r"corpus\.jsonl:2: no column '_id' or 'id'"),
    "no text": (in_corpus(b'"text": "Grass', b'"body": "Grass'), r"corpus\.jsonl:2: no column 'text'"),
    "a list for a text": (
        in_corpus(b'"Grass is green."', b"[1]"),
        r"corpus\.jsonl:2: the text must be a text",
    ),
    "a number for a title": (in_corpus(b'"title": ""', b'"title": 3'), r"corpus\.jsonl:2: the title must be"),
    "not UTF-8": (in_corpus(b"Grass", b"Gr\xe4ss"), r"corpus\.jsonl:2: not UTF-8"),
    "half a grade": (in_qrels(b"\t1\n", b"\t0.5\n"), r"train\.tsv:2: the score '0\.5' is not an integer"),
    "an endless grade": (in_qrels(b"\t1\n", b"\tinf\n"), r"train\.tsv:2: the score 'inf' is not an integer"),
    "a grade in words": (
        in_qrels(b"\t1\n", b"\thigh\n"),
        r"train\.tsv:2: the score 'high' is not an integer",
    ),
    "four columns": (in_qrels(b"q2\td2", b"q2\t0\td2"), r"train\.tsv:2 has 4 columns"),
    "two grades": (PLAIN._replace(qrels=PLAIN.qrels + b"q2\td2\t2\n"), r"train\.tsv:6 judges query 'q2' and"),
    "no judged query": (PLAIN._replace(qrels=b"ghost\td1\t1\n"), "no query is judged in 'train'"),
    "no judgement": (PLAIN._replace(qrels=b""), "no query is judged in 'train'"),
}
USERS: dict[str, Callable[[Path], object]] = {
    "eval": load_beir,
    "mine": Collection.read,
    "train": lambda folder: list(beir_pairs(folder, "train")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_every_user_says_the_same_of_a_broken_folder(tmp_path: Path, case: str) -> None:
    files, message = BROKEN[case]
    folder = write(tmp_path / "broken", files)
    said = set()
    for read in USERS.values():
        with pytest.raises(DataError, match=message) as caught:
            read(folder)
        said.add(str(caught.value))
    assert len(said) == 1


def test_an_index_skips_and_reports_what_is_an_error_elsewhere(tmp_path: Path) -> None:
    for case in ("a repeated id", "no JSON", "no id", "no text", "not UTF-8"):
        folder, skipped = write(tmp_path / case, BROKEN[case][0]), []
        documents = read_documents(folder, on_skip=lambda *skip, to=skipped: to.append(skip))
        assert [document.id for document in documents] == ["d1", "d3"]
        ((place, _),) = skipped
        assert place == f"{folder}/corpus.jsonl, line 2"


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels"])
def test_every_user_says_the_same_of_what_is_missing(tmp_path: Path, missing: str) -> None:
    folder = write(tmp_path / "part", PLAIN)
    if (folder / missing).is_dir():
        shutil.rmtree(folder / missing)
    else:
        (folder / missing).unlink()
    said = set()
    for read in (
        load_beir,
        lambda folder: Collection.read(folder),
        lambda folder: beir_pairs(folder, "train"),
    ):
        with pytest.raises(NotFoundError, match="a BEIR folder holds corpus") as caught:
            read(folder)
        said.add(str(caught.value))
    assert len(said) == 1


def test_splits_are_files_gzipped_or_not(tmp_path: Path) -> None:
    folder = BeirFolder(write(tmp_path / "colours", PLAIN))
    (folder.path / "qrels" / "dev.v2.tsv.gz").write_bytes(gzip.compress(b"q1\td1\t1"))
    (folder.path / "qrels" / "notes.txt").write_text("")
    assert folder.splits() == ["dev.v2", "train"]
    assert [judgement.grade for judgement in folder.read_split("dev.v2").judgements] == [1]
    with pytest.raises(NotFoundError, match=r"has no split 'test': choose one of dev\.v2, train"):
        folder.choose_split()
