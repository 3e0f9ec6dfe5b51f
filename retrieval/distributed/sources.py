"""The documents of the roots that a collection is made of, read as an index reads them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flatcoat.indexing.documents import Document
from flatcoat.indexing.reading.columns import USUAL
from flatcoat.indexing.reading.readers import read_documents
from flatcoat.indexing.reading.seen_ids import SeenIds
from flatcoat.indexing.store.source_paths import is_file, is_folder, is_name
from flatcoat.indexing.store.sources import Reading
from flatcoat.retrieval.ingest import Added, Skip


def read_roots(roots: Sequence[str | Path], reading: Reading, *, added: Added) -> Iterator[Document]:
    """The documents of all roots; what is left out is counted in ``added``.

    The id of a file is its path in its folder, that of a row its own; of equal ids the first counts. Raises
    as ``read_documents`` does, also where rows break off: what is not reached must not count as removed.
    """
    seen = SeenIds()

    def skip(place: str, reason: str) -> None:
        added.skipped.append(Skip(place, reason))

    for root in roots:
        where = root if isinstance(root, str) and is_name(root) else Path(root)
        are_files = is_folder(where) or is_file(where)
        own = reading.for_root(where)
        for document in read_documents(
            where,
            include=own.include or (),
            exclude=own.exclude or (),
            hidden=bool(own.hidden),
            columns=own.columns or USUAL,
            on_skip=skip,
            encoding=own.encoding,
            seen=None if are_files else seen,
        ):
            if not are_files:
                yield document
            elif seen.add(document.id):
                yield replace(document, metadata=document.metadata | {"path": document.id})
            else:
                skip(f"{root}/{document.id}", "another root has a document of this id")
