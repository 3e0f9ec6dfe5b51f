"""Queries to check an index with: drawn from its own documents, or read from a file.

Drawn are first sentences of docstrings and comments, headings, and first sentences of paragraphs; each has
its document as its only answer. They are known items, not what users ask, but need no judge, and are the same
for every index of the same documents, whatever its model, bits or chunking.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple

from flatcoat.errors import DataError
from flatcoat.indexing.documents import Document, normalized
from flatcoat.indexing.reading.languages import PROSE
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.terms import query_terms
from flatcoat.retrieval.data.docstrings import first_sentence
from flatcoat.retrieval.data.files import file_pairs

Kind = Literal["docstring", "heading", "sentence", "file"]

_AT_ONCE = 200  # documents read together
_PER_DOCUMENT = 8  # candidates kept where there are fewer documents than queries
_TERMS = range(3, 33)  # of a query, stop words aside
_LETTERS = 0.7  # least share of letters
_QUOTED = re.compile(r"^[ \t]*[rRuU]?(\"\"\"|''')(.*?)\1", re.DOTALL | re.MULTILINE)
_BLOCK = re.compile(r"/\*\*()(.*?)\*/", re.DOTALL)
_LINES = re.compile(r"^()((?:[ \t]*(?:///?|#|--)[! ][^\n]*\n)+)(?=[ \t]*\w)", re.MULTILINE)
_DECORATION = re.compile(r"^[ \t]*(?:///?!?|#+!?|--+|\*)[ \t]?", re.MULTILINE)
_LEGAL = re.compile(r"copyright|licen[cs]e|spdx|all rights", re.IGNORECASE)
_HEADING = re.compile(r"^#{1,6}[ \t]+([^\n]+?)[ \t#]*$", re.MULTILINE)
_PARAGRAPH = re.compile(r"(?:\A|\n[ \t]*\n)(\w[^\n]*(?:\n[ \t]*\w[^\n]*)*)")
_SENTENCE_END = re.compile(r"(?<=[.!?]) (?=\W*[^\W\da-z])|(?<=[。！？؟।])")
_MARKUP = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}")


class CheckQuery(NamedTuple):
    """A query, the ids of the documents that answer it, and the text of a document that it was drawn from.

    ``source`` is that text as it stands there, empty for a query from a file.
    """

    text: str
    documents: tuple[str, ...]
    kind: Kind
    source: str = ""


def draw_queries(store: Store, number: int, *, seed: int = 0) -> list[CheckQuery]:
    """At most ``number`` queries from the documents of an index, from as many documents as possible.

    Equal documents and seeds give equal queries. DataError where no document has a text to draw from.
    """
    ids = list(store.document_ids())
    Random(seed).shuffle(ids)
    pools: list[list[CheckQuery]] = []
    for start in range(0, len(ids), _AT_ONCE):
        batch = {document.id: document for document in store.documents(ids[start : start + _AT_ONCE])}
        found = (_shuffled(batch[id], seed) for id in ids[start : start + _AT_ONCE] if id in batch)
        pools += [pool for pool in found if pool]
        if len(pools) >= 2 * number:  # Some texts stand in two documents.
            break
    rounds = chain.from_iterable(zip_longest(*pools))
    queries = [*islice(_distinct(query for query in rounds if query), number)]
    if not queries:
        raise DataError(
            f"index {store.path} has no docstring, heading or sentence to ask for: give --queries FILE"
        )
    return queries


def read_queries(path: Path, store: Store) -> list[CheckQuery]:
    """The queries of a JSONL or Parquet file with columns ``query`` and ``document``.

    The document is named by its id or its file; a query with several answers has a row for each.
    NotFoundError or DataError for a file that cannot be read, DataError where it names a document that the
    index does not hold, or has no rows.
    """
    answers: dict[str, list[str]] = {}
    for pair in file_pairs(path):
        id = pair.document if store.holds(pair.document) else store.document_in(pair.document)
        if id is None:
            raise DataError(
                f"{pair.place}: the index holds no document {pair.document!r}, neither an id nor a file that "
                "it was made of"
            )
        answers.setdefault(normalized(pair.query), []).append(id)
    if not answers:
        raise DataError(f"{path} has no row with a query and a document")
    return [CheckQuery(text, tuple(dict.fromkeys(ids)), "file") for text, ids in answers.items()]


def candidates(document: Document) -> Iterator[CheckQuery]:
    """What may be asked for in a document, in its order.

    >>> text = "# How to bake rye bread\\n\\nYeast turns sugar into gas. Then knead the dough for long."
    >>> [query.text for query in candidates(Document("a", text, metadata={"lang": "markdown"}))]
    ['How to bake rye bread', 'Yeast turns sugar into gas']
    """
    lang = document.metadata.get("lang")
    found = _in_prose(document.text) if lang is None or lang in PROSE else _in_code(document.text)
    for kind, text, source in found:
        terms = len(query_terms(text))
        letters = sum(character.isalpha() for character in text)
        is_question = terms in _TERMS and letters >= _LETTERS * len(text.replace(" ", ""))
        if is_question and len(document.text) > 2 * len(source):  # Something is left to find it by.
            yield CheckQuery(text, (document.id,), kind, source)


def _in_code(text: str) -> Iterator[tuple[Kind, str, str]]:
    for pattern in (_QUOTED, _BLOCK, _LINES):
        for match in pattern.finditer(text):
            source = re.split(r"\n[ \t]*(?:///?|#|--|\*)?[ \t]*\n", match[2].strip("\n"), maxsplit=1)[0]
            sentence = None if _LEGAL.search(source) else first_sentence(_DECORATION.sub("", source))
            if sentence is not None:
                yield "docstring", sentence, source


def _in_prose(text: str) -> Iterator[tuple[Kind, str, str]]:
    for match in _HEADING.finditer(text):
        yield "heading", _plain(match[1]), match[1]
    for match in _PARAGRAPH.finditer(text):
        sentence = _SENTENCE_END.split(match[1].replace("\n", " "), maxsplit=1)[0]
        yield "sentence", _plain(sentence).rstrip(".。"), match[1][: len(sentence)]


def _plain(text: str) -> str:
    return " ".join(_MARKUP.sub(lambda match: match[1] or "", text).split())


def _shuffled(document: Document, seed: int) -> list[CheckQuery]:
    found = [*candidates(document)]
    Random(f"{seed} {document.id}").shuffle(found)
    return found[:_PER_DOCUMENT]


def _distinct(queries: Iterator[CheckQuery]) -> Iterator[CheckQuery]:
    seen: set[str] = set()
    for query in queries:
        if (key := " ".join(query_terms(query.text))) not in seen:
            seen.add(key)
            yield query


def still_answerable(queries: Sequence[CheckQuery], store: Store) -> list[CheckQuery]:
    """Those of the queries whose documents the index holds, with the text that they were drawn from."""
    ids = {id for query in queries for id in query.documents}
    texts = {document.id: " ".join(document.text.split()) for document in store.documents(ids)}
    return [
        query
        for query in queries
        if all(id in texts and " ".join(query.source.split()) in texts[id] for id in query.documents)
    ]
