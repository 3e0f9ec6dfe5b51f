"""The codec: what it keeps of vectors, at each number of bits, of any width, from one token up."""

from pathlib import Path

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.plaid.codec import Codec, centroid_count, lloyd_max, sample_size
from flatcoat.indexing.vectors import TokenVectors

LOSS = {1: 0.25, 2: 0.09, 4: 0.009}
"""Squared error of unit vectors around 64 centres, by bits; all of it would be 1."""


def vectors(tokens: int, width: int = 128, scale: float = 1.0, seed: int = 0) -> TokenVectors:
    """Unit vectors times ``scale``, in texts of about ten, noise as long as the centres they lie around."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((64, width))
    values = centres[random.integers(0, 64, tokens)] + random.standard_normal((tokens, width))
    values *= scale / np.linalg.norm(values, axis=1, keepdims=True)
    cuts = np.sort(random.integers(0, tokens + 1, tokens // 10))
    return TokenVectors(values.astype(np.float32), np.concatenate([[0], cuts, [tokens]]))


def loss(codec: Codec, wanted: TokenVectors) -> float:
    difference = codec.decode(codec.encode(wanted)).values_TD - wanted.values_TD
    return float((difference**2).sum(axis=1).mean() / (wanted.values_TD**2).sum(axis=1).mean())


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_little_is_lost_of_vectors_never_seen(bits: int) -> None:
    codec = Codec.train(vectors(4_000).values_TD, 4_000, bits=bits, centroids=64)
    assert codec.bits == bits
    assert loss(codec, vectors(3_000, seed=1)) < LOSS[bits]


def test_a_scale_for_each_residual_beats_quantile_buckets() -> None:
    """What PLAID engines do: buckets that hold equally many components, each decoded as its median."""
    seen, new = vectors(4_000), vectors(3_000, seed=1)
    codec = Codec.train(seen.values_TD, 4_000, bits=4, centroids=64)
    centroids = codec.centroids_KP * np.float32(codec.step)
    near = centroids[codec.encode(seen).codes_T], centroids[codec.encode(new).codes_T]
    residuals = (seen.values_TD - near[0]).ravel()
    cuts, medians = (
        np.quantile(residuals, np.arange(1, 16) / 16),
        np.quantile(residuals, np.arange(0.5, 16) / 16),
    )
    decoded = near[1] + medians[np.searchsorted(cuts, new.values_TD - near[1])]
    decoded /= np.linalg.norm(decoded, axis=1, keepdims=True)
    assert loss(codec, new) < 0.75 * ((decoded - new.values_TD) ** 2).sum(axis=1).mean()


@pytest.mark.parametrize("width", [1, 20, 96, 100])
@pytest.mark.parametrize("bits", [1, 4])
def test_any_width(width: int, bits: int) -> None:
    seen = vectors(2_000, width)
    codec = Codec.train(seen.values_TD, 2_000, bits=bits)
    coded = codec.encode(seen)
    assert coded.residuals_TB.shape == (2_000, -(-width // 8) * bits)
    assert loss(codec, seen) < LOSS[bits]


@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_the_length_of_a_vector_is_kept(scale: float) -> None:
    seen = vectors(2_000, scale=scale)
    codec = Codec.train(seen.values_TD, 2_000, bits=2)
    lengths = np.linalg.norm(codec.decode(codec.encode(seen)).values_TD, axis=1)
    assert np.abs(lengths / scale - 1).max() < 0.02


@pytest.mark.parametrize("tokens", [1, 2, 5, 40])
def test_a_codec_trained_on_next_to_nothing_serves_what_comes_later(tokens: int) -> None:
    codec = Codec.train(vectors(tokens).values_TD, tokens)
    assert loss(codec, vectors(tokens)) < 0.02
    assert loss(codec, vectors(500, seed=1)) < 0.05


def test_half_precision_is_taken_as_it_comes() -> None:
    seen = vectors(1_000)
    half = TokenVectors(seen.values_TD.astype(np.float16), seen.offsets)
    codec = Codec.train(half.values_TD, 1_000)
    assert loss(codec, half) < LOSS[4]


def test_a_zero_vector_stays_finite() -> None:
    codec = Codec.train(vectors(500).values_TD, 500)
    zeros = TokenVectors(np.zeros((3, 128), np.float32), np.array([0, 3]))
    assert np.isfinite(codec.decode(codec.encode(zeros)).values_TD).all()


def test_a_codec_survives_its_file(tmp_path: Path) -> None:
    seen = vectors(1_000)
    codec = Codec.train(seen.values_TD, 1_000, bits=2)
    codec.save(tmp_path / "codec.npz")
    again = Codec.load(tmp_path / "codec.npz")
    assert np.array_equal(
        again.decode(again.encode(seen)).values_TD, codec.decode(codec.encode(seen)).values_TD
    )
    whole = (tmp_path / "codec.npz").read_bytes()
    (tmp_path / "codec.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FlatcoatError, match="cannot be read"):
        Codec.load(tmp_path / "codec.npz")


def test_what_cannot_be_is_said() -> None:
    seen = vectors(100).values_TD
    with pytest.raises(FlatcoatError, match="3 bits per dimension: 1, 2 or 4"):
        Codec.train(seen, 100, bits=3)
    with pytest.raises(FlatcoatError, match="0 centroids: from 1 to 65,536"):
        Codec.train(seen, 100, bits=4, centroids=0)
    with pytest.raises(FlatcoatError, match="at least one token vector"):
        Codec.train(seen[:0], 0)


def test_customary_numbers() -> None:
    assert [centroid_count(tokens) for tokens in (1, 100, 816_000, 10**10)] == [1, 25, 8_192, 65_536]
    assert sample_size(1_000) == 1_000
    assert sample_size(10**9) == 65_536 * 24


def test_lloyd_max_finds_the_known_levels_of_a_normal() -> None:
    """Max 1960, table I: four levels of a normal distribution lie at +-0.4528 and +-1.5104."""
    levels = lloyd_max(np.random.default_rng(0).standard_normal(400_000), 4)
    assert levels == pytest.approx([-1.5104, -0.4528, 0.4528, 1.5104], abs=0.02)
