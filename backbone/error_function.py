"""The error function, for gelu: a quotient of polynomials in x^2, constant beyond 4, as in Eigen."""

import numpy as np

BEYOND = 4.0
TOP = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
BOTTOM = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)
"""Of the highest power first."""


def erf(x: np.ndarray) -> np.ndarray:
    """The error function of float32, to a few units of the last place.

    >>> erf(np.array([0.0, 1.0, 9.0], np.float32)).round(4).tolist()
    [0.0, 0.8427000045776367, 1.0]
    """
    x = x.clip(-BEYOND, BEYOND)
    z = x * x
    return x * _polynomial(TOP, z) / _polynomial(BOTTOM, z)


def _polynomial(coefficients: tuple[float, ...], z: np.ndarray) -> np.ndarray:
    value = np.full_like(z, coefficients[0])
    for coefficient in coefficients[1:]:
        value *= z
        value += coefficient
    return value
