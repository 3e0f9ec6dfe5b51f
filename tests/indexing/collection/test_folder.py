"""A folder of a collection, of this machine and behind fsspec."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from flatcoat.errors import ConflictError, MissingExtraError, NotFoundError, UsageError
from flatcoat.indexing.collection.folder import Folder, LocalFolder, UrlFolder, folder_at


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return folder_at(tmp_path / "wiki" if request.param == "local" else f"memory://{uuid4().hex}/wiki")


def test_files_are_written_listed_read_and_deleted(folder: Folder, tmp_path: Path) -> None:
    assert folder.names() == folder.names("absent/below") == []
    folder.create("one.json", b"1")
    source = tmp_path / "source"
    source.write_bytes(b"many bytes")
    folder.upload(source, "shards/0001/abc/segments/000001.npy")
    folder.download("shards/0001/abc/segments/000001.npy", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"many bytes"
    assert folder.names() == ["one.json", "shards"]
    assert folder.names("shards/0001") == ["abc"]
    assert 0 <= folder.age("one.json") < 60
    folder.delete("shards/0001/abc")
    folder.delete("never/was")
    assert folder.names("shards/0001/abc") == []
    for call in (folder.read, lambda name: folder.download(name, tmp_path / "other")):
        with pytest.raises(NotFoundError, match="absent is not there"):
            call("absent")


def test_of_many_writers_of_one_name_one_wins(folder: Folder) -> None:
    def write(number: int) -> bool:
        try:
            folder.create("collection.000001.json", str(number).encode() * 1_000)
        except ConflictError:
            return False
        return True

    if isinstance(folder, UrlFolder):  # Its create asks, then writes: one after the other.
        won = [write(number) for number in range(4)]
    else:
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(32)))
    assert won.count(True) == 1
    assert folder.read("collection.000001.json") == str(won.index(True)).encode() * 1_000
    assert folder.names() == ["collection.000001.json"]  # and nothing unfinished


def test_a_url_of_this_machine_is_a_plain_folder(tmp_path: Path) -> None:
    folder = folder_at(f"file://{tmp_path}")
    assert isinstance(folder, LocalFolder) and folder.local == tmp_path


def test_urls_that_nobody_knows_are_refused() -> None:
    with pytest.raises(UsageError, match="no folder that fsspec knows"):
        folder_at("nonsense://bucket/wiki")
    with pytest.raises((MissingExtraError, UsageError)):
        folder_at("s3://bucket/wiki")
