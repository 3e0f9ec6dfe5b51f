"""Text tokenised once: memory-mapped arrays of token ids, written shard by shard, without duplicates.

A folder has ``shards.json``, which names the shards that are complete, and three arrays per shard: token ids
of all documents end to end, the offsets of the documents, and a hash of each document's text. A run that was
cut off goes on after the last complete shard.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flatcoat.atomic_files import atomic_write_text
from flatcoat.errors import ConflictError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerFast

MANIFEST = "shards.json"
SHARD_TOKENS = 1 << 26
_BATCH = 64  # documents that are tokenised together
_HASH_BYTES = 16


class Shard(NamedTuple):
    """A complete shard: its sizes, and how many texts had been read when it was."""

    tokens: int
    documents: int
    texts_read: int


class Shards:
    """The token ids of a source's documents, without special tokens, as memory-mapped arrays.

    ``shards.document_lengths()`` counts the tokens of each document; ``shards.tokens(start, stop)`` is a
    range of the ids of all documents end to end.
    """

    def __init__(self, folder: Path):
        manifest = _read_manifest(folder)
        self.folder = folder
        self.shards = [Shard(*shard) for shard in manifest["shards"]]
        self.duplicates = int(manifest.get("duplicates", 0))
        self._ids = [_mapped(folder, number, "tokens") for number in range(len(self.shards))]
        self._starts = np.cumsum([0, *(shard.tokens for shard in self.shards)])

    def __len__(self) -> int:
        """Documents of all shards."""
        return sum(shard.documents for shard in self.shards)

    @property
    def token_count(self) -> int:
        """Tokens of all documents."""
        return int(self._starts[-1])

    def document_lengths(self) -> NDArray[np.int64]:
        """The tokens of each document [N]."""
        offsets = (_mapped(self.folder, number, "offsets") for number in range(len(self.shards)))
        return np.concatenate([np.empty(0, np.int64), *map(np.diff, offsets)])

    def tokens(self, start: int, stop: int) -> NDArray[np.int64]:
        """Ids ``start`` to ``stop`` of all documents end to end, which lie in one shard."""
        number = int(np.searchsorted(self._starts, start, side="right")) - 1
        first = int(self._starts[number])
        return self._ids[number][start - first : stop - first].astype(np.int64)


def write_shards(
    texts: Iterable[str],
    tokenizer: "PreTrainedTokenizerFast",
    folder: Path,
    *,
    fingerprint: str,
    shard_tokens: int = SHARD_TOKENS,
    on_progress: "Callable[[int], None]" = lambda tokens: None,
) -> Shards:
    """Tokenise ``texts`` into ``folder``, or continue there after the last complete shard.

    Texts that came before are left out. ``fingerprint`` says what the shards are made of. Raises
    ConflictError where the folder holds shards of something else, DataError where there is no text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = _Writer(folder, fingerprint, dtype=np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32)
    if not writer.complete:
        encode = _encoder(tokenizer)
        waiting = islice(texts, writer.texts_read, None)
        while batch := list(islice(waiting, _BATCH)):
            writer.add(batch, encode)
            if writer.pending_tokens >= shard_tokens:
                writer.finish_shard()
            on_progress(writer.token_count)
        writer.finish_shard(complete=True)
    shards = Shards(folder)
    if not len(shards):
        shutil.rmtree(folder)
        raise DataError(f"the source of {folder.name} holds no text: name another")
    return shards


def text_hash(text: str) -> bytes:
    """Sixteen bytes that are the same for texts that differ in white space alone."""
    return hashlib.blake2b(" ".join(text.split()).encode(), digest_size=_HASH_BYTES).digest()


class _Writer:
    """Collects documents until a shard is full; only whole shards are on disk and in the manifest."""

    def __init__(self, folder: Path, fingerprint: str, *, dtype: type):
        self._folder, self._fingerprint, self._dtype = folder, fingerprint, dtype
        manifest: dict[str, Any] = {}
        if (folder / MANIFEST).exists():
            manifest = _read_manifest(folder)
            if manifest["fingerprint"] != fingerprint:
                raise ConflictError(f"{folder} holds shards of other text or another tokenizer: remove it")
        self._shards = [Shard(*shard) for shard in manifest.get("shards", [])]
        self._duplicates = int(manifest.get("duplicates", 0))
        self.complete = bool(manifest.get("complete", False))
        self.texts_read = self._shards[-1].texts_read if self._shards else 0
        self.token_count = sum(shard.tokens for shard in self._shards)
        self._seen = set() if self.complete else self._known_hashes()
        self._start_shard()

    def add(self, texts: Sequence[str], encode: "Callable[[Sequence[str]], list[list[int]]]") -> None:
        self.texts_read += len(texts)
        new = []
        for text in texts:
            if (digest := text_hash(text)) not in self._seen:
                self._seen.add(digest)
                self._hashes.append(digest)
                new.append(text)
        self._duplicates += len(texts) - len(new)
        for ids in encode(new):
            self._ids.append(np.array(ids, self._dtype))
            self.pending_tokens += len(ids)
            self.token_count += len(ids)

    def finish_shard(self, *, complete: bool = False) -> None:
        if self._ids:
            number = len(self._shards)
            _save(self._folder, number, "tokens", np.concatenate(self._ids))
            _save(self._folder, number, "offsets", np.cumsum([0, *map(len, self._ids)], dtype=np.int64))
            hashes = np.frombuffer(b"".join(self._hashes), np.uint8).reshape(-1, _HASH_BYTES)
            _save(self._folder, number, "hashes", hashes)
            self._shards.append(Shard(self.pending_tokens, len(self._ids), self.texts_read))
        values = {
            "fingerprint": self._fingerprint,
            "complete": complete,
            "duplicates": self._duplicates,
            "shards": self._shards,
        }
        # Only now does the shard count: the manifest is its commit.
        atomic_write_text(self._folder / MANIFEST, json.dumps(values) + "\n")
        self._start_shard()

    def _start_shard(self) -> None:
        self._ids: list[NDArray[Any]] = []
        self._hashes: list[bytes] = []
        self.pending_tokens = 0

    def _known_hashes(self) -> set[bytes]:
        known: set[bytes] = set()
        for number in range(len(self._shards)):
            known.update(row.tobytes() for row in _mapped(self._folder, number, "hashes"))
        return known


def _encoder(tokenizer: "PreTrainedTokenizerFast") -> "Callable[[Sequence[str]], list[list[int]]]":
    fast = tokenizer.backend_tokenizer

    def encode(texts: Sequence[str]) -> list[list[int]]:
        encodings = fast.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    return encode


def _file(folder: Path, number: int, part: str) -> Path:
    return folder / f"{number:05}.{part}.npy"


def _save(folder: Path, number: int, part: str, array: NDArray[Any]) -> None:
    np.save(_file(folder, number, part), array)


def _mapped(folder: Path, number: int, part: str) -> NDArray[Any]:
    file = _file(folder, number, part)
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} cannot be read, remove {folder} and start again: {error}") from None


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / MANIFEST} cannot be read, remove the folder: {error}") from None
