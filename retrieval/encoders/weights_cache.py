"""Hashes of large weight files, remembered: hashing them again would take longer than a search."""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from flatcoat.atomic_files import atomic_write_text

logger = logging.getLogger(__name__)

_SMALL = 1 << 20
"""Bytes that are hashed in a few milliseconds, even where each becomes four, and so every time."""

_DIGITS = 64


def remembered_hash(files: Sequence[Path], compute: Callable[[], str]) -> str:
    """``compute()``, a SHA-256 over the content of ``files``; for large ones computed once per content.

    Files whose paths, sizes, times and inodes are unchanged have unchanged content. Hashes are kept in
    $XDG_CACHE_HOME/flatcoat/weights (~/.cache by default); where none can be kept, all are computed.
    """
    statuses = [file.stat() for file in files]
    if sum(status.st_size for status in statuses) < _SMALL:
        return compute()
    seen = [
        (str(file.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        for file, status in zip(files, statuses, strict=True)
    ]
    kept = _cache() / hashlib.sha256(repr(seen).encode()).hexdigest()
    with suppress(OSError, ValueError):
        if len(known := kept.read_text(encoding="ascii")) == _DIGITS:
            return known
    computed = compute()
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(kept, computed)
    except OSError as error:
        logger.info("the hash of %s cannot be kept (%s): every search computes it", files[0], error)
    return computed


def _cache() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flatcoat" / "weights"
    except RuntimeError:  # A user without a home.
        return Path(os.devnull)
