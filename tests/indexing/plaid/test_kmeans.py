"""k-means on bytes: it finds the clusters that are there, and as many means as were asked for."""

import numpy as np

from flatcoat.indexing.plaid.int8_matmul import as_rows
from flatcoat.indexing.plaid.kmeans import assign, kmeans


def clustered(clusters: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    centres = random.integers(-90, 91, (clusters, 16))
    points = centres.repeat(each, axis=0) + random.integers(-5, 6, (clusters * each, 16))
    return centres, points.astype(np.int8)


def test_means_of_clear_clusters_explain_their_points() -> None:
    _, points = clustered(8, 60)
    rows = as_rows(points)
    means = kmeans(rows, len(points), means=24)
    found = assign(rows, len(points), means_KD=means)
    loss = ((points - means[found]) ** 2).sum(axis=1).mean()
    assert means.shape == (24, 16)
    assert loss < 16 * 11  # the variance of -5 to 5 is 10


def test_the_nearest_mean_is_by_distance_not_by_product() -> None:
    points = np.array([[40, 0, 0, 0], [10, 0, 0, 0]], np.int8)
    means = np.array([[12, 0, 0, 0], [100, 0, 0, 0]], np.float32)
    assert assign(as_rows(points), 2, means_KD=means).tolist() == [0, 0]


def test_more_means_than_points_are_the_points() -> None:
    _, points = clustered(2, 3)
    means = kmeans(as_rows(points), len(points), means=50)
    assert sorted(means.tolist()) == sorted(points.astype(float).tolist())


def test_equal_points_leave_no_mean_undefined() -> None:
    points = np.full((100, 8), 3, np.int8)
    assert np.all(kmeans(as_rows(points), 100, means=10) == 3)


def test_the_same_seed_gives_the_same_means() -> None:
    _, points = clustered(5, 40)
    rows = as_rows(points)
    assert np.array_equal(kmeans(rows, 200, means=9, seed=3), kmeans(rows, 200, means=9, seed=3))
