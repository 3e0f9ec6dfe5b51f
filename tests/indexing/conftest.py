"""What every test of indexing leaves as it was."""

import os
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _openmp_threads() -> Iterator[None]:
    """FAISS's setting is torch's too: what tests of forked processes set must not reach other tests."""
    yield
    if faiss := sys.modules.get("faiss"):
        faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
