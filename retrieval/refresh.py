"""Bring the texts of an index up to date before a search, as far as that takes a moment."""

import time
from typing import TYPE_CHECKING

from flatcoat.errors import FlatcoatError

from .freshness import stale_sources

if TYPE_CHECKING:
    from flatcoat.indexing.store.store import Store

    from .index_model import IndexModel

_MOST_FILES = 10_000
"""Files that are listed and compared in half a second."""


def refresh(store: "Store", model: "IndexModel", *, seconds: float) -> str | None:
    """Store the texts of files that changed; returns what was left undone and why, None where nothing was.

    The index can be searched as it is in any case: an error of it or of a file is returned, not raised.
    """
    until = time.monotonic() + seconds
    try:
        sources = stale_sources(store, seconds=seconds / 2)
        if not sources:
            return None
        if sum(store.count_of(source.key) for source in sources) > _MOST_FILES * seconds:
            return "too many files to look through before a search"
        # With all that reads files, which a search seldom needs.
        from .chunking import Chunker
        from .ingest import Adder
        from .sync import Sync

        with store.writer() as writer:
            adder = Adder(writer, chunker=Chunker(model, store.contract))
            sync = Sync(store, writer, adder=adder, until=until)
            for source in sources:
                sync.bring_up_to_date(source)
        return "more has changed than can be read before a search" if sync.is_cut_off else None
    except FlatcoatError as error:
        return str(error)
