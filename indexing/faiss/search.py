"""Candidates from a FAISS index, with the search parameters of its class.

Axes: Q query vectors (one per query), F candidates of FAISS, M vectors of the index, D width.
"""

import logging
import math
from typing import Any, NamedTuple

import numpy as np

from flatcoat.errors import StorageError

from .build import downcast, encoded, layers
from .settings import load_faiss, reason

_LOG = logging.getLogger(__name__)

RESCORE = 4
"""Candidates rescored per hit, where the index keeps half a byte per component or more."""

RESCORE_CODES = 32
"""Candidates rescored per hit, where the index keeps less."""

_EF_SEARCH = 128
_SPARE = 2  # factor of extra candidates where FAISS cannot apply a filter itself
_CROSSED = 4  # vectors scored exactly in the time of one ``ef_search`` candidate in a graph


class Effort(NamedTuple):
    """The number of inverted lists to read, and of candidates to keep while walking a graph."""

    n_probe: int
    ef_search: int


class Selection(NamedTuple):
    """The vectors of a FAISS index that pass a filter (bool [M]), their share, and a selector for FAISS.

    ``selector`` is None where all vectors pass, or where this class of index takes none.
    """

    mask_M: np.ndarray
    share: float
    selector: Any


class FaissSearch:
    """Searches an index of ``build_faiss``; vectors are numbered by their places in it."""

    def __init__(self, index: Any) -> None:
        faiss = load_faiss()
        self.rows_M: np.ndarray = faiss.vector_to_array(index.id_map)
        self.is_binary = isinstance(index, faiss.IndexBinary)
        self.width: int = index.d
        self._owner = index  # keeps the wrapped indexes alive
        self._index, *inner = layers(index)[1:]
        self._core = next(part for part in [self._index, *inner] if not _wraps(part))
        storage = inner[-1] if inner else self._index
        self.rescore = _rescore(storage.code_size / storage.d if storage.d == self.width else 0)
        self._lists: int = getattr(self._core, "nlist", 1)
        self._takes_selectors = self._try_selector()

    def select(self, mask_M: np.ndarray) -> Selection:
        """Restrict searches to the vectors where ``mask_M`` is true."""
        share = float(mask_M.mean()) if len(mask_M) else 0.0
        return Selection(mask_M, share, _bitmap(mask_M) if self._takes_selectors and share < 1 else None)

    def effort(self, candidates: int, share: float, *, n_probe: int | None, ef_search: int | None) -> Effort:
        """The effort that finds this number of ``candidates``; it grows as the ``share`` that passes falls.

        The default is 2 sqrt(lists), or the number of lists with twice the candidates where that is more; in
        a graph twice the candidates, at least 128.
        """
        enough = 2 * candidates * self._lists / len(self.rows_M)
        n_probe = n_probe or math.ceil(max(2 * math.sqrt(self._lists), enough))
        ef_search = ef_search or max(_EF_SEARCH, 2 * candidates)
        return Effort(
            min(self._lists, math.ceil(n_probe / share)), min(len(self.rows_M), math.ceil(ef_search / share))
        )

    def exact_up_to(self, effort: Effort) -> int:
        """Number of selected vectors up to which exact search is as fast as FAISS."""
        if hasattr(self._core, "hnsw"):
            return _CROSSED * effort.ef_search
        return len(self.rows_M) if self._lists > 1 and effort.n_probe == self._lists else 0

    def search(
        self, queries_QD: np.ndarray, count: int, *, selection: Selection, effort: Effort
    ) -> tuple[np.ndarray, np.ndarray]:
        """Places (int64 [Q, F], -1 beyond the last) and FAISS's scores of the best ``count``."""
        queries = encoded(queries_QD, self.is_binary)
        passing = selection.share == 1 or selection.selector is not None
        taken = count if passing else math.ceil(_SPARE * count / selection.share)
        parameters = _parameters(self._index, selection.selector, effort)
        try:
            scores_QF, places_QF = self._index.search(
                queries, min(taken, len(self.rows_M)), params=parameters
            )
        except (RuntimeError, MemoryError, AssertionError) as error:
            raise StorageError(f"FAISS cannot search this index ({reason(error)}): verify it") from error
        if (places_QF >= len(self.rows_M)).any():
            raise StorageError(
                "FAISS found vectors that are not there, its file is damaged: verify the index"
            )
        if passing:
            return places_QF, scores_QF
        places_QF[~selection.mask_M[places_QF]] = -1
        chosen = np.argsort(places_QF < 0, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(places_QF, chosen, 1), np.take_along_axis(scores_QF, chosen, 1)

    def _try_selector(self) -> bool:
        """Whether this class of index takes a selector: FAISS raises where it does not."""
        query = encoded(np.zeros((1, self.width), np.float32), self.is_binary)
        nobody = _bitmap(np.zeros(len(self.rows_M), bool))
        try:
            self._index.search(query, 1, params=_parameters(self._index, nobody, Effort(1, 1)))
        except (RuntimeError, AssertionError) as error:
            kind = type(self._index).__name__
            _LOG.debug("%s takes no selector, its results are filtered: %s", kind, reason(error))
            return False
        return True


def _parameters(index: Any, selector: Any, effort: Effort) -> Any:
    """FAISS's search parameters, nested like the index."""
    faiss = load_faiss()
    index = downcast(index)
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=_parameters(index.index, selector, effort))
    if isinstance(index, faiss.IndexRefine):
        inner = _parameters(index.base_index, selector, effort)
        return faiss.IndexRefineSearchParameters(k_factor=1, base_index_params=inner)
    if hasattr(index, "hnsw"):
        return faiss.SearchParametersHNSW(efSearch=effort.ef_search, sel=selector)
    if hasattr(index, "nprobe"):
        coarse = _parameters(index.quantizer, None, Effort(1, 2 * effort.n_probe))
        return faiss.SearchParametersIVF(nprobe=effort.n_probe, sel=selector, quantizer_params=coarse)
    return faiss.SearchParameters(sel=selector) if selector else None


def _rescore(bytes_per_component: float) -> int:
    """Candidates to rescore per hit, by the bytes per component that the index keeps."""
    if bytes_per_component >= 2:  # a whole float16: FAISS's scores differ in their last bits alone
        return 1
    return RESCORE if bytes_per_component >= 0.5 else RESCORE_CODES


def _wraps(index: Any) -> bool:
    return hasattr(index, "index") or hasattr(index, "base_index")


def _bitmap(mask_M: np.ndarray) -> Any:
    faiss = load_faiss()
    return faiss.IDSelectorBitmap(np.packbits(mask_M, bitorder="little"))
