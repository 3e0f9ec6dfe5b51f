"""Settings of the C allocator for processes that run batch after batch."""

import ctypes
import logging
import sys

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8


def reuse_freed_memory() -> None:
    """Keep freed blocks for the next batch instead of handing each back to the system (glibc; else nothing).

    A forward allocates and frees the same large blocks again and again. glibc maps each anew, and on virtual
    machines the page faults can cost as much as the arithmetic. Source: mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError) as error:
        logger.debug("freed memory goes back to the system: no mallopt (%s)", error)
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_ARENA_MAX, 1)  # A thread's own arena is mapped, and given back, in pieces.
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 2**26)
