"""The Hugging Face hub: whether it answers, and checkpoints and data sets from it, with one error for all."""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import DataError, FlatcoatError, NotFoundError, first_line

logger = logging.getLogger(__name__)

_PATIENCE = 5  # seconds that the hub has to answer
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def hub_is_reachable() -> bool:
    """Whether the hub accepts a connection within five seconds; False in offline mode (HF_HUB_OFFLINE).

    The hub's clients retry each file for half a minute and more before they give up: ask first, and use the
    local cache alone where this is False. Behind a proxy names need not resolve here: a proxy is trusted.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in _PROXIES):
        return True
    url = urlsplit(constants.ENDPOINT)
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        socket.create_connection((url.hostname or "", port), timeout=_PATIENCE).close()
    except OSError as error:
        logger.info("%s cannot be reached (%s): the local cache is used alone", constants.ENDPOINT, error)
        return False
    return True


@contextmanager
def offline_unless_reachable() -> Iterator[None]:
    """Offline mode of huggingface_hub and datasets inside, where the hub does not answer."""
    from datasets import config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    if not hub_is_reachable():
        constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before


def hub_error(name: str, error: Exception, *, by_hand: str) -> NotFoundError:
    """The error for a model or data set that cannot be read; ``by_hand`` says where to put its files.

    >>> print(hub_error("org/model", OSError("No network."), by_hand="give its folder"))
    org/model cannot be read from the Hugging Face hub: No network. To place it by hand, give its folder
    """
    reason = first_line(error).rstrip(".")
    return NotFoundError(
        f"{name} cannot be read from the Hugging Face hub: {reason}. To place it by hand, {by_hand}"
    )


def model_error(name: str | Path, error: Exception) -> NotFoundError:
    """The ``hub_error`` for a model."""
    return hub_error(f"model {str(name)!r}", error, by_hand="download its files and give their folder")


def download_model(name: str, patterns: Sequence[str]) -> Path:
    """The folder in the local cache that holds the files of a model whose names match ``patterns``.

    Raises NotFoundError where the model is neither on the hub nor in the cache.
    """
    from huggingface_hub import snapshot_download

    try:
        is_offline = not hub_is_reachable()
        return Path(snapshot_download(name, allow_patterns=list(patterns), local_files_only=is_offline))
    except (OSError, ValueError) as error:
        raise model_error(name, error) from error


def load_dataset(
    name: str,
    config: str | None = None,
    *,
    label: str,
    by_hand: str,
    split: str | None = None,
    revision: str | None = None,
    cache_dir: Path | None = None,
    streaming: bool = False,
) -> Any:
    """``datasets.load_dataset`` of a name on the hub or of a folder, without progress bars.

    Raises ``dataset_error``, in which ``label`` names the data set and ``by_hand`` says where to put a copy.
    """
    import datasets

    datasets.disable_progress_bars()
    is_local = _is_folder(name)
    try:
        with nullcontext() if is_local else offline_unless_reachable():
            return datasets.load_dataset(
                name,
                config,
                split=split,
                revision=None if is_local else revision,
                cache_dir=None if cache_dir is None else str(cache_dir),
                streaming=streaming,
            )
    except dataset_errors() as error:
        raise dataset_error(name, error, label=label, by_hand=by_hand) from error


def dataset_error(name: str, error: Exception, *, label: str, by_hand: str) -> FlatcoatError:
    """The error for a data set: DataError where ``name`` is a folder, else NotFoundError (``hub_error``)."""
    if _is_folder(name):
        return DataError(f"{label} cannot be read: {first_line(error)}")
    return hub_error(label, error, by_hand=by_hand)


def dataset_errors() -> tuple[type[Exception], ...]:
    """The exceptions of data sets that are missing, malformed or out of reach, when loaded or streamed."""
    import httpx
    from datasets.exceptions import DatasetsError

    return (OSError, ValueError, RuntimeError, DatasetsError, httpx.HTTPError)


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # longer than a path may be
        return False
