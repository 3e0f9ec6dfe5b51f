"""Fewer vectors per passage: similar token vectors are replaced by their mean.

The vectors of a passage are clustered hierarchically (Ward's method on cosine distances), and each cluster is
replaced by its mean, made of length 1 again. The first vector, of the CLS token, stays as it is. PyLate and
the HierarchicalTokenPooling of sentence-transformers do the same; source: Clavié et al. 2024,
https://arxiv.org/abs/2409.14683. Axes: T tokens, D width.
"""

import numpy as np

from flatcoat.indexing.exact import unit_length
from flatcoat.indexing.vectors import TokenVectors

_KEPT = 1
"""Tokens at the start that are not pooled: CLS."""


def pooled_tokens(vectors: TokenVectors, factor: int) -> TokenVectors:
    """One vector for about ``factor`` token vectors of each text, which have length 1; 1 changes nothing.

    >>> vectors = TokenVectors(np.eye(4, dtype=np.float32)[[0, 1, 1, 2, 2]], np.array([0, 5]))
    >>> pooled_tokens(vectors, 2).values_TD.tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    """
    if factor == 1:
        return vectors
    width = vectors.values_TD.shape[1]
    return TokenVectors.from_list([_pooled(each, factor) for each in vectors], width)


def _pooled(vectors_TD: np.ndarray, factor: int) -> np.ndarray:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    kept_TD, rest_TD = vectors_TD[:_KEPT], vectors_TD[_KEPT:].astype(np.float32)
    clusters = max(len(rest_TD) // factor, 1)
    if clusters >= len(rest_TD):
        return vectors_TD
    distances_TT = np.clip(1 - rest_TD @ rest_TD.T, 0, 2)
    tree = linkage(squareform(distances_TT, checks=False), method="ward")
    labels_T = fcluster(tree, clusters, criterion="maxclust")
    # Numbered without gaps: equal distances may leave fewer clusters than asked for.
    _, labels_T = np.unique(labels_T, return_inverse=True)
    sums_TD = np.zeros((labels_T.max() + 1, rest_TD.shape[1]), np.float32)
    np.add.at(sums_TD, labels_T, rest_TD)
    return np.concatenate([kept_TD, unit_length(sums_TD).astype(vectors_TD.dtype)])
