"""Waiting for changes below folders (watchfiles)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import FlatcoatError


def changes(roots: Sequence[Path], index: Path, quiet_ms: int = 1_000) -> Iterator[None]:
    """Yield whenever something below ``roots`` has changed and then rested, what is in ``index`` aside.

    Raises FlatcoatError where watchfiles is not installed; ends with KeyboardInterrupt.
    """
    try:
        from watchfiles import watch
    except ImportError as error:
        raise FlatcoatError("--watch needs watchfiles: pip install flatcoat[watch]") from error
    own = index.resolve()

    def counts(change: object, path: str) -> bool:
        return not Path(path).is_relative_to(own)

    for _ in watch(*roots, watch_filter=counts, step=quiet_ms):
        yield
