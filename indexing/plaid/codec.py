"""The codec of PLAID: a token vector as its nearest centroid and its residual, 1, 2 or 4 bits per dimension.

Unlike PLAID's quantile buckets (Santhanam et al. 2022), each residual has a scale of its own, chosen by least
squares, and its scaled components are coded with Lloyd-Max levels (Lloyd 1982); the norm of the vector is
stored as well. vector = norm x (centroid + scale x level of each code), all in bytes, so that search
multiplies bytes.

Axes: N texts, T tokens, D width, P width padded to whole bytes of codes, B bytes of codes, K centroids.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED

import numpy as np

from flatcoat.errors import StorageError, UsageError
from flatcoat.indexing.array_checks import damaged, require_array, require_below, require_offsets
from flatcoat.indexing.vectors import CodedTokens, InvertedLists, TokenVectors
from flatcoat.threads import pieces, spread

if TYPE_CHECKING:
    from .int8_matmul import Columns

# Kernels are imported where they are needed: a search from the shell does without numba (``numpy_index``).

BITS = (1, 2, 4)
MOST_CENTROIDS = 1 << 16
"""The code of a centroid has two bytes."""

POINTS_PER_MEAN = 24
"""Points to train on: more take time and hardly move the means of real token vectors."""

_TOKENS_PER_TASK = 8_192
_FEW_TOKENS = 4_096  # which NumPy decodes before numba is loaded
_FITTED_ON = 1 << 16  # tokens of the sample that levels and norms are fitted to
_SMALLEST = 1e-6  # components, residuals and norms: smaller ones count as this
_SCALES = 4.0  # natural logarithm of the ratio of the largest and the smallest scale
_LARGEST, _LARGEST_LOGARITHM = 65_504.0, 40.0  # of float16, and of scales that float32 can multiply
_NORMS = 0.1  # the least extent of ``norm_range`` on either side of 0


def centroid_count(tokens: int) -> int:
    """The customary number for a collection, 2^floor(log2(16 sqrt(tokens))), at most one per four tokens.

    >>> centroid_count(816_000)
    8192
    """
    customary = 1 << int(np.log2(16 * max(tokens, 1) ** 0.5))
    return max(1, min(customary, tokens // 4, MOST_CENTROIDS))


def sample_size(tokens: int, centroids: int | None = None) -> int:
    """Number of a collection's tokens to train its codec on."""
    return min(tokens, max((centroids or centroid_count(tokens)) * POINTS_PER_MEAN, _FITTED_ON))


@dataclass(frozen=True)
class Codec:
    """Codes token vectors in bytes and decodes them; all segments that it coded share it.

    >>> vectors = TokenVectors.from_list([np.eye(16, dtype=np.float32)])
    >>> codec = Codec.train(vectors.values_TD, tokens=16, bits=4)
    >>> coded = codec.encode(vectors)
    >>> coded.residuals_TB.shape  # 16 components of 4 bits: 8 bytes per token
    (16, 8)
    >>> np.allclose(codec.decode(coded).values_TD, vectors.values_TD, atol=0.1)
    True

    ``centroids_KP`` int8, in units of ``step``; ``levels`` int8 [2^bits], in units of a residual's scale;
    ``unit`` is the scale of a residual whose mean square is 1; ``largest_scale`` and ``norm_range`` are
    natural logarithms; ``row_step`` is the unit in which vectors are compared with centroids; ``tokens`` is
    the size of the collection that it was trained for.
    """

    width: int
    tokens: int
    centroids_KP: np.ndarray
    step: float
    row_step: float
    levels: np.ndarray
    unit: float = 1.0
    largest_scale: float = 0.0
    norm_range: tuple[float, float] = (-_NORMS, _NORMS)

    def __post_init__(self) -> None:
        """Raise StorageError where parts do not fit together or numbers are out of the range of training."""
        if not all(isinstance(number, int) and number > 0 for number in (self.width, self.tokens)):
            raise damaged("the codec", f"its width is {self.width!r}, for {self.tokens!r} tokens")
        require_array("centroids", self.centroids_KP, dtype=np.int8, shape=(None, -(-self.width // 8) * 8))
        require_array("levels", self.levels, dtype=np.int8, shape=(None,))
        possible = len(self.levels) in [1 << bits for bits in BITS]
        if not 1 <= len(self.centroids_KP) <= MOST_CENTROIDS or not possible:
            raise damaged("the codec", f"{len(self.centroids_KP)} centroids, {len(self.levels)} levels")
        steps, (low, high) = (self.step, self.row_step), self.norm_range
        logarithms = self.largest_scale, low, high
        sound = all(isinstance(number, float) for number in (*steps, self.unit, *logarithms))
        if not (
            sound
            and all(0 < step < _LARGEST for step in steps)
            and 0 <= self.unit < _LARGEST
            and all(abs(number) < _LARGEST_LOGARITHM for number in logarithms)
            and low < high
        ):
            raise damaged("the codec", f"its scales are {(*steps, self.unit, *logarithms)}")

    @staticmethod
    def train(
        sample_TD: np.ndarray, tokens: int, *, bits: int = 4, centroids: int | None = None, seed: int = 0
    ) -> "Codec":
        """A codec for ``tokens`` vectors like those of the sample (float16 or float32 [T, D]).

        Raises UsageError for ``bits`` other than 1, 2 and 4, ``centroids`` out of range, an empty sample.
        """
        if bits not in BITS:
            raise UsageError(f"{bits} bits per dimension: 1, 2 or 4 are possible")
        if centroids is not None and not 1 <= centroids <= MOST_CENTROIDS:
            raise UsageError(f"{centroids} centroids: from 1 to {MOST_CENTROIDS:,} are possible")
        if not len(sample_TD):
            raise UsageError("a codec needs at least one token vector to train on")
        from .int8_matmul import as_rows
        from .kmeans import kmeans

        row_step = max(float(np.abs(sample_TD).max()), _SMALLEST) / 127
        rows_TP = as_rows(_bytes(sample_TD, row_step))
        means_KP = (
            kmeans(rows_TP, len(sample_TD), means=centroids or centroid_count(tokens), seed=seed) * row_step
        )
        step = max(float(np.abs(means_KP).max()), _SMALLEST) / 127
        centroids_KP = np.round(means_KP / step).astype(np.int8)
        codec = Codec(sample_TD.shape[1], tokens, centroids_KP, step, row_step, np.zeros(1 << bits, np.int8))
        some_TD = sample_TD[:: max(1, len(sample_TD) // _FITTED_ON)].astype(np.float32)
        return codec._with_levels(some_TD)._with_norms(some_TD)

    @property
    def bits(self) -> int:
        """Bits per dimension of the residual: 1, 2 or 4."""
        return len(self.levels).bit_length() - 1

    @property
    def _bytes_per_token(self) -> int:
        return self.centroids_KP.shape[1] * self.bits // 8

    @cached_property
    def scales(self) -> np.ndarray:
        """float32 [2, 256]: the scales, then the norms, that ``CodedTokens.scales_T2`` names."""
        scales = np.linspace(self.largest_scale - _SCALES, self.largest_scale, 256)
        return np.exp([scales, np.linspace(*self.norm_range, 256)]).astype(np.float32)

    def encode(self, vectors: TokenVectors) -> CodedTokens:
        """Code the vectors of N texts, ``width`` components each."""
        return self._encode(vectors)[0]

    def require(self, coded: CodedTokens) -> None:
        """Raise StorageError unless ``coded`` is of this codec's types, shapes and bounds."""
        require_array("codes", coded.codes_T, dtype=np.uint16, shape=(None,))
        tokens = len(coded.codes_T)
        require_array("residuals", coded.residuals_TB, dtype=np.uint8, shape=(tokens, self._bytes_per_token))
        require_array("scales", coded.scales_T2, dtype=np.uint8, shape=(tokens, 2))
        require_array("offsets", coded.offsets, dtype=np.int64, shape=(None,))
        require_offsets("offsets", coded.offsets, end=tokens)
        require_below("codes", coded.codes_T, bound=len(self.centroids_KP))

    def inverted_lists(self, codes_T: np.ndarray, offsets: np.ndarray) -> InvertedLists:
        """The passages that have a token at each centroid: see ``kernels.inverted_lists``."""
        from .kernels import inverted_lists

        return inverted_lists(codes_T, offsets, centroids=len(self.centroids_KP))

    def decode(self, coded: CodedTokens) -> TokenVectors:
        """The vectors (float32) up to the loss of coding; StorageError for codes of another codec."""
        self.require(coded)
        values_TD = np.empty((len(coded.codes_T), self.width), np.float32)
        if len(values_TD) <= _FEW_TOKENS:
            self._decode_few(coded, values_TD)
            return TokenVectors(values_TD, coded.offsets)
        from .codec_kernels import decode

        centroids = self.centroids_KP, np.float32(self.step)

        def decode_chunk(here: slice) -> None:
            parts = coded.codes_T[here], coded.residuals_TB[here], coded.scales_T2[here]
            decode(*parts, *centroids, self.levels, self.scales, values_TD[here])

        spread(decode_chunk, pieces(len(values_TD), _TOKENS_PER_TASK))
        return TokenVectors(values_TD, coded.offsets)

    def _decode_few(self, coded: CodedTokens, values_TD: np.ndarray) -> None:
        """``codec_kernels.decode``, equal to the last bit: numba would take longer to load."""
        levels_TP = self.levels_of_bytes[coded.residuals_TB].reshape(-1, self.centroids_KP.shape[1])
        scales_T, norms_T = (self.scales[row, coded.scales_T2[:, row], None] for row in range(2))
        values_TD[:] = np.float32(self.step) * self.centroids_KP[coded.codes_T, : self.width]
        values_TD += scales_T * levels_TP[:, : self.width].astype(np.float32)
        values_TD *= norms_T

    @cached_property
    def levels_of_bytes(self) -> np.ndarray:
        """The levels (int8 [256, components of a byte]) that each possible byte of codes stands for."""
        codes = np.arange(256)[:, None] >> (self.bits * np.arange(8 // self.bits)) & (len(self.levels) - 1)
        return self.levels[codes]

    def save(self, path: Path) -> None:
        """Write the codec as a .npz file."""
        with path.open("xb") as file:
            arrays: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
            np.savez(file, **arrays)

    @staticmethod
    def load(path: Path) -> "Codec":
        """Read what ``save`` wrote; StorageError where the file is missing, truncated or no codec."""
        try:
            values = _read_npz(path)
            low, high = values.pop("norm_range").tolist()
            return Codec(**values, norm_range=(low, high))
        except (StorageError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise StorageError(f"codec {path} cannot be read ({error}): restore it from a backup") from error

    @cached_property
    def _columns(self) -> "Columns":
        from .int8_matmul import Columns

        columns = Columns(self.centroids_KP)
        # The largest of these products is the smallest Euclidean distance.
        squares_K = (self.centroids_KP.astype(np.float32) ** 2).sum(axis=1)
        halves_K = np.round(squares_K * self.step / (2 * self.row_step))
        columns.starts[: columns.count] -= np.minimum(halves_K, 1 << 30).astype(np.int32)
        return columns

    @cached_property
    def _thresholds(self) -> np.ndarray:
        levels = self.levels.astype(np.float32)
        return (levels[1:] + levels[:-1]) / 2

    def _nearest(self, values_TD: np.ndarray, codes_T: np.ndarray) -> None:
        from .int8_matmul import as_rows, nearest

        rows_TP = as_rows(_bytes(values_TD, self.row_step))
        nearest(rows_TP, len(values_TD), self._columns.panels, self._columns.starts, codes_T)

    def _encode(self, vectors: TokenVectors) -> tuple[CodedTokens, np.ndarray]:
        """The coded vectors, and their norms [T] before these became bytes."""
        from .codec_kernels import encode

        tokens = len(vectors.values_TD)
        codes_T, scales_T2 = np.empty(tokens, np.uint16), np.empty((tokens, 2), np.uint8)
        residuals_TB = np.empty((tokens, self._bytes_per_token), np.uint8)
        norms_T = np.empty(tokens, np.float32)
        levels = self.levels, self._thresholds, np.float32(self.unit), np.log(self.scales)

        def encode_chunk(here: slice) -> None:
            values_TD = vectors.values_TD[here].astype(np.float32)
            self._nearest(values_TD, codes_T[here])
            centroids = codes_T[here], self.centroids_KP, np.float32(self.step)
            encode(values_TD, *centroids, *levels, residuals_TB[here], scales_T2[here], norms_T[here])

        spread(encode_chunk, pieces(tokens, _TOKENS_PER_TASK))
        return CodedTokens(codes_T, residuals_TB, scales_T2, vectors.offsets.astype(np.int64)), norms_T

    def _with_levels(self, sample_TD: np.ndarray) -> "Codec":
        codes_T = np.empty(len(sample_TD), np.uint16)
        here = pieces(len(sample_TD), _TOKENS_PER_TASK)
        spread(lambda some: self._nearest(sample_TD[some], codes_T[some]), here)
        residuals_TD = sample_TD - self.centroids_KP[codes_T, : self.width] * np.float32(self.step)
        scales_T1 = np.sqrt((residuals_TD**2).mean(axis=1, keepdims=True))
        clear = scales_T1[:, 0] > _SMALLEST
        exact = lloyd_max((residuals_TD[clear] / scales_T1[clear]).ravel(), 1 << self.bits)
        unit = float(np.abs(exact).max()) / 127
        # No residual is much longer than its vector.
        longest = max(float(np.sqrt((sample_TD**2).mean(axis=1).max())), _SMALLEST)
        levels = np.round(exact / unit).astype(np.int8)
        return replace(self, levels=levels, unit=unit, largest_scale=float(np.log(longest * unit)))

    def _with_norms(self, sample_TD: np.ndarray) -> "Codec":
        _, norms_T = self._encode(TokenVectors(sample_TD, np.array([0, len(sample_TD)])))
        low, high = np.quantile(np.log(np.maximum(norms_T, _SMALLEST)), [0.0005, 0.9995])
        return replace(self, norm_range=(min(float(low), -_NORMS), max(float(high), _NORMS)))


def _read_npz(path: Path) -> dict[str, Any]:
    """The arrays of an uncompressed .npz file by name, arrays without axes as numbers."""
    try:
        with np.load(path) as arrays:
            if any(member.compress_type != ZIP_STORED for member in arrays.zip.infolist()):
                raise ValueError("it is compressed")
            return {name: array if array.ndim else array.item() for name, array in arrays.items()}
    except Exception as error:  # Damaged bytes make numpy and zipfile raise almost anything.
        raise StorageError(str(error)) from error


def lloyd_max(values: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` levels (rising) of least squared error for ``values``, for a normal if these are few."""
    if len(values) < 64 * count:
        values = np.array([NormalDist().inv_cdf((i + 0.5) / 4_096) for i in range(4_096)])
    values = np.sort(values[:: max(1, len(values) >> 20)].astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    levels = np.quantile(values, (np.arange(count) + 0.5) / count)
    for _ in range(50):
        bounds = np.searchsorted(values, (levels[1:] + levels[:-1]) / 2)
        bounds = np.concatenate([[0], bounds, [len(values)]])
        sizes = np.diff(bounds)
        levels = np.where(sizes > 0, np.diff(sums[bounds]) / np.maximum(sizes, 1), levels)
    return levels


def _bytes(values_TD: np.ndarray, step: float) -> np.ndarray:
    """Vectors as int8 [T, P] in units of ``step``, clipped to 127 of them."""
    tokens, width = values_TD.shape
    bytes_TP = np.zeros((tokens, -(-width // 8) * 8), np.int8)
    for here in pieces(tokens, _TOKENS_PER_TASK):
        bytes_TP[here, :width] = np.clip(np.round(values_TD[here].astype(np.float32) / step), -127, 127)
    return bytes_TP
