"""A package whose sources the questions are about."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Split: TypeAlias = Literal["dev", "test"]


@dataclass(frozen=True)
class Package:
    """One package: its archive's ``file`` name and ``sha256``, and what of it is left out of the corpus.

    ``exclude`` are beginnings of paths (builds of files that are there as sources); ``pool`` is the archive's
    place under a Debian mirror, or empty.

    >>> Package("sky", "pypi", "1.0", "sky-1.0.tar.gz", "0" * 64, "MIT", "Python", "dev").pool
    ''
    """

    name: str
    registry: Literal["pypi", "npm", "debian"]
    version: str
    file: str
    sha256: str
    licence: str
    language: str
    split: Split
    exclude: tuple[str, ...] = ()
    pool: str = ""
