"""An index without the texts that queries were drawn from, so that no query is found by its own words.

The documents that queries were drawn from are replaced in a copy of the index, passage by passage: the text
is cut out and what remains is encoded again. All else is the index itself, down to its files.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, compress, groupby
from pathlib import Path
from typing import TYPE_CHECKING

from flatcoat.indexing.documents import Passage
from flatcoat.indexing.store.store import Store
from flatcoat.retrieval.retriever import Retriever

from .queries import CheckQuery

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder

_ENCODED_TOGETHER = 64  # documents
_LONG = 12  # characters of a title or heading that may have been cut


def masked_copy(
    store: Store,
    queries: Sequence[CheckQuery],
    *,
    folder: Path,
    model: "str | Encoder | None" = None,
    vectors: bool = True,
) -> Retriever:
    """A copy of an index in ``folder`` without what its queries were drawn from.

    ``model`` is as for ``Retriever.open``. Without ``vectors`` the passages that changed are found by BM25
    alone. Passages of which nothing is left are left out.
    """
    store.copy(folder)
    masked = Retriever.open(folder, model)
    drawn: dict[str, list[CheckQuery]] = {}
    for query in queries:
        for id in query.documents:
            drawn.setdefault(id, []).append(query)
    ids = sorted(drawn)
    with masked.store.writer() as writer:
        for start in range(0, len(ids), _ENCODED_TOGETHER):
            passages = _without(masked, {id: drawn[id] for id in ids[start : start + _ENCODED_TOGETHER]})
            encoded = None
            if vectors and masked.has_model and passages:
                encoded = masked.encoder.encode_documents([passage.searchable for passage in passages])
            writer.remove(ids[start : start + _ENCODED_TOGETHER])
            writer.add(passages, encoded)
    return masked


def _without(retriever: Retriever, drawn: Mapping[str, Sequence[CheckQuery]]) -> list[Passage]:
    """The passages of documents without the texts that queries were drawn from, document by document."""
    passages = retriever.store.passages(retriever.store.rows_of(drawn))
    passages.sort(key=lambda passage: passage.document_id)  # Stable: each document's keep their order.
    return [
        passage
        for id, those in groupby(passages, key=lambda passage: passage.document_id)
        for passage in without([*those], drawn[id])
        if passage.searchable.strip()
    ]


def without(passages: Sequence[Passage], queries: Sequence[CheckQuery]) -> list[Passage]:
    """All passages of a document without the texts that queries were drawn from, in sections and titles too.

    A text may begin in one passage and end in the next. Line breaks stay, so that lines keep their numbers.

    >>> query = CheckQuery("How to bake", ("a",), "heading", "How to *bake*")
    >>> passages = [Passage("a", "# How to *ba", "Bread"), Passage("a", "ke* Knead.", section="How to bake")]
    >>> [passage.searchable for passage in without(passages, [query])]
    ['Bread # ', ' Knead.']
    """
    text = "".join(passage.text for passage in passages)
    kept = bytearray(b"\1" * len(text))
    for query in queries:
        words = r"\s*".join(map(re.escape, query.source.split()))
        for match in re.finditer(words, text):
            for place in range(*match.span()):
                kept[place] = kept[place] and text[place] == "\n"
    starts = accumulate((len(passage.text) for passage in passages), initial=0)
    return [
        replace(
            passage,
            text="".join(compress(passage.text, kept[start:])),
            title=_without_names(passage.title, queries, ""),
            section=_without_names(passage.section, queries, " > "),
        )
        for passage, start in zip(passages, starts, strict=False)
    ]


def _without_names(name: str, queries: Sequence[CheckQuery], separator: str) -> str:
    """A title, or the path of a section, without what is a query or, being long, the beginning of one."""
    parts = name.split(separator) if separator else [name]
    return separator.join(part for part in parts if not any(_names(part, query.text) for query in queries))


def _names(part: str, text: str) -> bool:
    return part == text or (len(part) >= _LONG and text.startswith(part.rstrip("…")))
