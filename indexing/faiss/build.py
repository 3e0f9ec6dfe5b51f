"""A FAISS index of all vectors of a snapshot: trained, filled, written as one immutable file, mapped again.

The file is FAISS's own (an IDMap of passage rows) with its length at the end, where FAISS does not read:

    FAISS's bytes | b"flatcoat" | their number, uint64 little-endian

FAISS maps a truncated file and then reads beyond its end. It checks much else, such as the links of graphs;
whether the parts fit together is checked here.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from flatcoat.errors import StorageError, UsageError

from .rows import DenseRows
from .settings import FaissSettings, load_faiss, reason

if TYPE_CHECKING:
    from flatcoat.indexing.snapshot import Snapshot

_END = struct.Struct("<8sQ")
_MAGIC = b"flatcoat"

_WIDEST = 1 << 16
_FIXED = (
    *("d", "metric_type", "code_size", "nlist", "by_residual"),
    *("M", "M2", "nbits", "ksub", "bbs", "qbs", "implem", "skip"),
)
"""Attributes that the factory decides, not the vectors; FAISS's kernels trust them."""

# Bounds of the sample that trains an index. Product quantizers use at most 256 vectors for each of their 256
# centroids, FAISS asks for 39 per inverted list, and the whole sample is in memory.
_SAMPLE = 1 << 16
_SAMPLE_PER_LIST = 40
_SAMPLE_NUMBERS = 1 << 29  # 2 GiB

_READ_LIMIT = Lock()  # FAISS's limit of allocations is one per process


def write_faiss(path: Path, snapshot: "Snapshot", *, settings: FaissSettings) -> None:
    """Train and fill the index of ``settings`` from all of ``snapshot`` and write it, durably, as a new file.

    FAISS's index is in memory meanwhile, and a sample of at most 2 GiB. A graph differs a little from run to
    run where several threads build it; all else is deterministic. Raises UsageError where there are no
    vectors or too few for these settings.
    """
    faiss = load_faiss()
    if not len(snapshot):
        raise UsageError("there are no vectors to make a FAISS file of: add passages first")
    index = build_faiss(DenseRows(snapshot, settings.is_cosine), snapshot.rows, settings=settings)
    write = faiss.write_index_binary if settings.is_binary else faiss.write_index
    with path.open("xb") as file:
        write(index, faiss.PyCallbackIOWriter(file.write))
        file.write(_END.pack(_MAGIC, file.tell()))
        file.flush()
        os.fsync(file.fileno())


def read_faiss(path: Path, settings: FaissSettings) -> Any:
    """Map what ``write_faiss`` wrote; StorageError where it is missing, damaged or of other settings."""
    faiss = load_faiss()
    read = faiss.read_index_binary if settings.is_binary else faiss.read_index
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _END.size))
            if file.read() != _END.pack(_MAGIC, max(0, size - _END.size)):
                raise StorageError(f"FAISS file {path} was cut short or never finished: build it again")
        with _no_part_larger_than(size):
            index = read(str(path), faiss.IO_FLAG_MMAP_IFC)
    except OSError as error:
        raise StorageError(f"FAISS file {path} cannot be opened ({error}): build it again") from error
    except (RuntimeError, MemoryError, AssertionError, TypeError, ValueError) as error:
        kind = f"as factory {settings.factory!r}"
        raise StorageError(
            f"FAISS file {path} cannot be read {kind} ({reason(error)}): build it again"
        ) from error
    if problem := next(_misfits(index, settings), None):
        raise StorageError(f"FAISS file {path} is damaged ({problem}): build it again")
    return index


@contextmanager
def _no_part_larger_than(size: int) -> Iterator[None]:
    """Limits FAISS's allocations while it reads, as a damaged size could be any. FAISS 1.12 has no limit."""
    faiss = load_faiss()
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):
        yield
        return
    with _READ_LIMIT:
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(size)
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before)


def _misfits(index: Any, settings: FaissSettings) -> Iterator[str]:
    """The contradictions between the parts of a FAISS index, and between it and these settings."""
    faiss = load_faiss()
    if not isinstance(index, faiss.IndexIDMap | faiss.IndexBinaryIDMap):
        yield "it names no passage rows"
        return
    if index.id_map.size() != index.ntotal:
        yield f"{index.id_map.size()} rows are named, there are {index.ntotal} vectors"
    if not 0 < index.d <= _WIDEST:
        yield f"its vectors are {index.d} wide"
    fresh = settings.create(index.d, index.ntotal)  # keeps its layers alive
    parts, expected = layers(index)[1:], layers(fresh)
    # FAISS reads an IndexFlat as the IndexFlatIP that it is.
    if len(parts) != len(expected) or not all(map(isinstance, parts, map(type, expected))):
        yield f"it is {type(parts[0]).__name__}, the factory makes {type(expected[0]).__name__}"
    for part, like in zip(parts, expected, strict=False):
        for name in filter(partial(hasattr, like), _FIXED):
            if getattr(part, name) != getattr(like, name):
                yield f"{name} is {getattr(part, name)}, the factory has {getattr(like, name)}"
        yield from _part_misfits(part, index.ntotal)


def _part_misfits(part: Any, vectors: int) -> Iterator[str]:
    faiss = load_faiss()
    if part.ntotal != vectors or not part.is_trained:
        yield f"a part has {part.ntotal} vectors, the index {vectors}"
    if hasattr(part, "ntotal2"):  # 4-bit codes in blocks, the last one filled up
        padded = -(-vectors // part.bbs) * part.bbs
        if (part.ntotal2, 2 * part.codes.size()) != (padded, padded * part.M2):
            yield f"{part.codes.size()} bytes for blocks of {part.bbs} codes of {part.M2} half bytes"
    elif isinstance(part, faiss.IndexFlatCodes) and part.codes.size() != vectors * part.code_size:
        yield f"{part.codes.size()} bytes for {vectors} vectors of {part.code_size} bytes"
    if hasattr(part, "invlists"):
        lists = part.invlists
        if not part.nlist == lists.nlist == part.quantizer.ntotal:
            yield f"{lists.nlist} inverted lists for {part.quantizer.ntotal} centroids"
        elif sum(lists.list_size(place) for place in range(lists.nlist)) != vectors:
            yield f"its inverted lists do not hold {vectors} vectors"


def build_faiss(vectors: DenseRows, ids: np.ndarray, *, settings: FaissSettings) -> Any:
    """A FAISS index of all ``vectors`` by their ``ids`` (int64); UsageError where FAISS cannot make it."""
    faiss = load_faiss()
    inner = settings.create(vectors.width, len(vectors))
    index = (faiss.IndexBinaryIDMap if settings.is_binary else faiss.IndexIDMap)(inner)
    everything = np.arange(len(vectors))
    try:
        if len(vectors) and not index.is_trained:
            _train(index, vectors, settings)
        for block in vectors.blocks(everything):
            index.add_with_ids(encoded(vectors[block], settings.is_binary), ids[block])
    except RuntimeError as error:
        raise UsageError(
            f"FAISS cannot make {settings.factory!r} of {len(vectors)} vectors ({reason(error)}): "
            "choose fewer IVF lists (IVF alone takes as many as suit) or, for so few, HNSW32 or Flat"
        ) from error
    return index


def encoded(vectors_ND: np.ndarray, is_binary: bool) -> np.ndarray:
    """Vectors as FAISS takes them: float32, or for a binary index their sign bits (uint8 [N, D / 8])."""
    return np.packbits(vectors_ND > 0, axis=1) if is_binary else vectors_ND


def downcast(index: Any) -> Any:
    """A FAISS index as its own class: FAISS returns inner indexes as their base class."""
    faiss = load_faiss()
    is_binary = isinstance(index, faiss.IndexBinary)
    return faiss.downcast_IndexBinary(index) if is_binary else faiss.downcast_index(index)


def layers(index: Any) -> list[Any]:
    """A FAISS index and the indexes in it, outermost first: transforms, the search structure, its storage."""
    index = downcast(index)
    for name in ("index", "base_index", "storage"):
        if hasattr(index, name):
            return [index, *layers(getattr(index, name))]
    return [index]


def _train(index: Any, vectors: DenseRows, settings: FaissSettings) -> None:
    """Train on a sample, without FAISS's warnings on stderr about k-means of few points."""
    faiss = load_faiss()
    parts = layers(index)
    storage = parts[-1]
    for clustered in [storage, *(getattr(storage, name) for name in ("pq", "rq") if hasattr(storage, name))]:
        if hasattr(clustered, "cp"):
            clustered.cp.min_points_per_centroid = 1
    rotations = [rotation for part in parts if hasattr(part, "chain") for rotation in _rotations(part.chain)]
    quantizers = [faiss.ProductQuantizer(rotation.d_out, rotation.M, 8) for rotation in rotations]
    for rotation, quantizer in zip(rotations, quantizers, strict=True):
        quantizer.cp.min_points_per_centroid = 1
        rotation.pq = quantizer
    if hasattr(storage, "do_polysemous_training"):
        storage.do_polysemous_training = False  # most of the time of training, for searches not made here
    lists = getattr(storage, "nlist", 0)
    size = min(max(_SAMPLE, _SAMPLE_PER_LIST * lists), _SAMPLE_NUMBERS // vectors.width, len(vectors))
    sample = np.random.default_rng(0).choice(len(vectors), size, replace=False)
    index.train(encoded(vectors[np.sort(sample)], settings.is_binary))
    for rotation in rotations:
        rotation.pq = None


def _rotations(chain: Any) -> list[Any]:
    """The transforms of a chain that train a product quantizer of their own (OPQ, Ge et al. 2013)."""
    faiss = load_faiss()
    transforms = [faiss.downcast_VectorTransform(chain.at(place)) for place in range(chain.size())]
    return [transform for transform in transforms if isinstance(transform, faiss.OPQMatrix)]
