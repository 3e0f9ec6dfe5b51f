"""What a manifest says, and who writes it."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from scipy.stats import chisquare

from flatcoat.errors import ConflictError, NotFoundError, StorageError
from flatcoat.indexing.array_files import WrittenFile
from flatcoat.indexing.collection.folder import folder_at
from flatcoat.indexing.collection.manifest import Manifest, ShardVersion, commit, latest, shard_of
from flatcoat.indexing.store.engines import EngineSettings

FILES = WrittenFile("index.sqlite", 7, "ab"), WrittenFile("segments/000001.codes.npy", 9, "cd")
VERSION = ShardVersion(uuid4().hex, 3, 4, 4, 50, "3-00", "", FILES)
MANIFEST = Manifest(
    8,
    {"encoder": None},
    EngineSettings("plaid"),
    3,
    WrittenFile("codec-0123456789abcdef.npz", 5, "ef"),
    ((4, 16, 0.5, 1.0),),
    ("docs",),
    {2: VERSION, 7: VERSION},
)


def test_the_shard_of_a_document_is_the_same_everywhere_and_for_ever() -> None:
    assert [shard_of(id, 64) for id in ("sky", "sea", "7", "é", "東京")] == [53, 53, 2, 47, 48]
    counts = [0] * 50
    for number in range(100_000):
        counts[shard_of(f"document {number}", 50)] += 1
    assert chisquare(counts).pvalue > 0.001


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert Manifest.from_json(MANIFEST.to_json(), "here") == MANIFEST
    folder = folder_at(tmp_path)
    for manifest in (MANIFEST, MANIFEST.next(versions={})):
        commit(folder, manifest)
        assert latest(folder) == manifest


def test_of_two_writers_of_a_generation_one_is_told(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    commit(folder, MANIFEST)
    one, other = MANIFEST.next(sources=("a",)), MANIFEST.next(sources=("b",))
    commit(folder, one)
    with pytest.raises(ConflictError, match="changed by another writer"):
        commit(folder, other)
    assert latest(folder) == one


def test_generations_are_ordered_as_numbers(tmp_path: Path) -> None:
    folder = folder_at(tmp_path)
    late = Manifest(1, {}, EngineSettings(), 1_000_000)
    for manifest in (late, Manifest(1, {}, EngineSettings(), 999_999)):
        commit(folder, manifest)
    assert latest(folder) == late


def test_without_a_manifest_there_is_no_collection(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no collection of shards"):
        latest(folder_at(tmp_path / "absent"))


def changed(*path: Any, to: Any) -> bytes:
    values = json.loads(MANIFEST.to_json())
    inner = values
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = to
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1]",
        MANIFEST.to_json()[:-40],
        changed("shards", to=0),
        changed("shards", to=4),
        changed("codec", 0, to="../../codec-0123456789abcdef.npz"),
        changed("versions", "2", 0, to="../../../etc"),
        changed("versions", "2", -1, 0, 0, to="/etc/passwd"),
        changed("versions", "2", -1, 0, 0, to="segments/../../x.codes.npy"),
        changed("versions", "2", -1, 0, 1, to="7"),
        changed("engine", "name", to="other"),
    ],
)
def test_a_damaged_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(StorageError, match=r"here|the engine of the index"):
        Manifest.from_json(content, "here")


def test_another_format_says_what_to_do() -> None:
    with pytest.raises(ConflictError, match="upgrade"):
        Manifest.from_json(changed("format", to=2), "here")
