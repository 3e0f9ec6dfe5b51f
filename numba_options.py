"""How numba compiles kernels: they run without Python's lock, and are compiled once per user.

numba keeps compiled kernels in NUMBA_CACHE_DIR, else beside their module in ``__pycache__``, else in the
user's cache folder (``~/.cache/numba``). Where it can write to none of the three, as in a container with
read-only disks, it refuses to define a kernel; every process then compiles for itself.
"""

import logging
import os
from pathlib import Path
from typing import Any

from numba import njit

logger = logging.getLogger(__name__)


def _probe() -> None:
    """Stands for all kernels: it lies in the same package, so its cache would lie beside theirs."""


def _can_cache() -> bool:
    try:
        if not (os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")):
            Path.home()  # Raises for a user without one, for whom numba would make a folder "~" right here.
        njit(cache=True)(_probe)
    except RuntimeError as error:
        logger.debug("numba kernels are compiled in every process (set NUMBA_CACHE_DIR): %s", error)
        return False
    return True


OPTIONS: dict[str, Any] = {"nogil": True, "cache": _can_cache(), "error_model": "numpy"}
"""Arguments of ``numba.njit`` for every kernel. A division by zero gives inf or NaN, as in NumPy."""
