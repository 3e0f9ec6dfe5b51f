"""Whether the hub answers, and the one error of all that is read from it."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants

from flatcoat.backbone.weights import read_checkpoint
from flatcoat.errors import DataError, NotFoundError, first_line
from flatcoat.eval.glue.data import load_hub
from flatcoat.eval.glue.tasks import TASKS
from flatcoat.eval.mteb_tasks import HubTask, load_hub_task
from flatcoat.hub import hub_is_reachable, load_dataset, offline_unless_reachable
from flatcoat.indexing.reading.rows import read_dataset
from flatcoat.retrieval.data.dataset import load_source
from flatcoat.retrieval.data.source import Source
from flatcoat.retrieval.encoders.load import load_encoder


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Offline mode, in which tests run, is off, and so is every proxy."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_hub_that_accepts_connections_is_reachable(online: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        online.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert hub_is_reachable()
        with offline_unless_reachable():
            assert not constants.HF_HUB_OFFLINE
        online.setattr(constants, "HF_HUB_OFFLINE", True)
        assert not hub_is_reachable()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "https://surely-not-there.invalid"])
def test_a_hub_that_refuses_or_does_not_resolve_is_not(online: pytest.MonkeyPatch, endpoint: str) -> None:
    online.setattr(constants, "ENDPOINT", endpoint)
    assert not hub_is_reachable()
    with offline_unless_reachable():
        assert constants.HF_HUB_OFFLINE and datasets.config.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE
    online.setenv("HTTPS_PROXY", "http://proxy:8080")
    assert hub_is_reachable()


USERS: dict[str, Callable[[Path], object]] = {
    "weights": lambda folder: read_checkpoint("nobody/nothing"),
    "encoder": lambda folder: load_encoder("nobody/nothing"),
    "rows": lambda folder: list(read_dataset("nobody/nothing")),
    "training": lambda folder: load_source(Source(hub="nobody/nothing"), folder, folder=folder / "arrow"),
    "glue": lambda folder: load_hub(TASKS["rte"]),
    "mteb": lambda folder: load_hub_task(HubTask("NFCorpus", "default", "test"), "", drop_own_ids=False),
}


@pytest.mark.parametrize("user", USERS)
def test_what_cannot_be_had_is_one_error_everywhere_and_at_once(
    online: pytest.MonkeyPatch, tmp_path: Path, user: str
) -> None:
    online.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    online.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    started = time.perf_counter()
    message = r"cannot be read from the Hugging Face hub: .+\. To place it by hand, \w+"
    with pytest.raises(NotFoundError, match=message) as caught:
        USERS[user](tmp_path)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - started < 10


def test_a_folder_that_is_no_data_set_is_damaged_data_and_not_missing(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("no json")
    with pytest.raises(DataError, match=r"^mine cannot be read: \w"):
        load_dataset(str(tmp_path), label="mine", by_hand="", cache_dir=tmp_path / "cache")


def test_the_first_line_of_an_error_is_one_line_whatever_the_error() -> None:
    assert first_line(ValueError("\n\n  a \t b\nc")) == "a b"
    assert first_line(ValueError("x" * 1_000)) == "x" * 500
    assert first_line(TimeoutError()) == "TimeoutError"
