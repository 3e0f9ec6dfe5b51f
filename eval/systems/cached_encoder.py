"""An encoder whose vectors are kept: a run encodes each text once, for all the systems that search it.

FOLDER/<contract>.sqlite    vectors of documents, by the SHA-256 of their texts
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.errors import StorageError
from flatcoat.eval.records import key_of
from flatcoat.indexing.vectors import TokenVectors, Vectors

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.contract import Contract
    from flatcoat.retrieval.encoders.encoder import Encoder

_LOOKUP_BATCH = 500  # texts
# Numbered rows keep the vectors in the order of writing; the index of digests is small.
_TABLE = "CREATE TABLE IF NOT EXISTS vectors (row INTEGER PRIMARY KEY, digest BLOB UNIQUE, data BLOB)"
_STORED = np.dtype("<f4")
_WAIT_SECONDS = 600  # for another process that writes


class CachedEncoder:
    """An encoder that encodes no text twice.

    Vectors of documents are kept in ``folder`` (None: they are not kept), those of queries in memory, until
    ``forget``. What was encoded before a run was cut off stays, and processes may share the folder.
    ``seconds`` is the time spent on documents so far.

    >>> encoder = CachedEncoder(load_encoder(), Path("results/vectors"))  # doctest: +SKIP
    >>> encoder.encode_documents(["Cats purr."])  # doctest: +SKIP
    """

    def __init__(self, encoder: "Encoder", folder: Path | None = None) -> None:
        self.folder = folder
        self.seconds = 0.0
        self._encoder = encoder
        self._queries: dict[str, np.ndarray] = {}

    @property
    def name(self) -> str:
        """The encoder's name."""
        return self._encoder.name

    @property
    def contract(self) -> "Contract":
        """The encoder's contract."""
        return self._encoder.contract

    def token_counts(self, texts: Sequence[str], *, is_query: bool = False) -> list[int]:
        """The encoder's token counts."""
        return self._encoder.token_counts(texts, is_query=is_query)

    def truncate_documents(self, length: int | None) -> None:
        """Truncate documents as the encoder does; their vectors are other ones then."""
        self._queries.clear()  # One length may be that of both.
        self._encoder.truncate_documents(length)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, in order; only new ones are encoded."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._queries]
        if missing:
            self._queries |= zip(missing, _matrices(self._encoder.encode_queries(missing)), strict=True)
        return self._together([self._queries[text] for text in texts])

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors of documents, in order; only texts that the folder lacks are encoded.

        Raises StorageError where the folder cannot be read or written.
        """
        began = perf_counter()
        try:
            return self._encoder.encode_documents(texts) if self.folder is None else self._kept(texts)
        finally:
            self.seconds += perf_counter() - began

    def _kept(self, texts: Sequence[str]) -> Vectors:
        digests = [sha256(text.encode(errors="surrogatepass")).digest() for text in texts]
        with self._database() as connection:
            known = self._read(connection, digests)
        missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in known}
        if missing:
            vectors = _matrices(self._encoder.encode_documents(list(missing.values())))
            encoded = dict(zip(missing, vectors, strict=True))
            with self._database() as connection:
                _write(connection, encoded)
            known |= encoded
        return self._together([known[digest] for digest in digests])

    def forget(self) -> None:
        """Drop the queries, and delete the vectors of documents that this encoder's contract made."""
        self._queries.clear()
        if self.folder is not None:
            for file in self.folder.glob(f"{self._path.name}*"):
                file.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        assert self.folder is not None
        return self.folder / f"{key_of(self.contract.settings)}.sqlite"

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        path = self._path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=_WAIT_SECONDS)) as connection:
                # No WAL: going over to it fails at once, without a wait, where another thread opens the file.
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(_TABLE)
                yield connection
        except (OSError, sqlite3.Error) as error:
            raise StorageError(
                f"{path}, where vectors are kept, cannot be used: {error}; make room, or delete it"
            ) from error

    def _read(self, connection: sqlite3.Connection, digests: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        wanted = list(dict.fromkeys(digests))
        width = self.contract.width
        found: dict[bytes, np.ndarray] = {}
        for start in range(0, len(wanted), _LOOKUP_BATCH):
            batch = wanted[start : start + _LOOKUP_BATCH]
            marks = ", ".join("?" * len(batch))
            rows = connection.execute(f"SELECT digest, data FROM vectors WHERE digest IN ({marks})", batch)
            found |= {digest: np.frombuffer(data, _STORED).reshape(-1, width) for digest, data in rows}
        return found

    def _together(self, matrices: Sequence[np.ndarray]) -> Vectors:
        width = self.contract.width
        if self.contract.kind == "colbert":
            return TokenVectors.from_list(matrices, width)
        return np.concatenate(matrices) if matrices else np.zeros((0, width), dtype=np.float32)


def _matrices(vectors: Vectors) -> list[np.ndarray]:
    """One matrix [vectors, D] per text: of a dense encoder it has one row."""
    return list(vectors) if isinstance(vectors, TokenVectors) else [row[None] for row in vectors]


def _write(connection: sqlite3.Connection, matrices: Mapping[bytes, np.ndarray]) -> None:
    rows = ((digest, matrix.astype(_STORED).tobytes()) for digest, matrix in matrices.items())
    with connection:
        connection.executemany("INSERT OR IGNORE INTO vectors (digest, data) VALUES (?, ?)", rows)
