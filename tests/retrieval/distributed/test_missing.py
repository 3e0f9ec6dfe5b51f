"""Shards that cannot be read or do not answer: named by an error, or by a partial answer of the others."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from flatcoat import Document, Retriever, StorageError, UsageError
from flatcoat.__main__ import app
from flatcoat.indexing.collection.manifest import shard_of
from flatcoat.indexing.documents import Passage
from flatcoat.retrieval.distributed.shards import CollectionShards, Member, Shards
from flatcoat.retrieval.serving.errors import answer_errors
from flatcoat.retrieval.shard import MissingShards, Shard, StoreShard

from ..folders import HashEncoder
from .test_update import answers, documents

SHARDS = 4


class Encoder(HashEncoder):
    def __init__(self) -> None:
        super().__init__("colbert")


@pytest.fixture
def many(tmp_path: Path) -> Retriever:
    made = Retriever.create(tmp_path / "wiki", Encoder(), shards=SHARDS)
    made.add(documents(60))
    return made


def lose(many: Retriever, *shards: int) -> None:
    """Take away the files of some shards."""
    assert many.collection
    for shard in shards:
        version = many.collection.manifest.versions[shard].version
        for name in ("index.sqlite", "segments"):
            path = Path(many.path, "shards", f"{shard:04d}", version, name)
            path.rename(path.with_name(f"lost {name}"))


def without(many: Retriever, *shards: int) -> Retriever:
    """The collection opened anew where the files of some shards are gone."""
    lose(many, *shards)
    return Retriever.open(many.path, Encoder())


@pytest.mark.parametrize("mode", ["vectors", "bm25", "hybrid"])
def test_a_shard_that_is_gone_is_named(many: Retriever, mode: Any) -> None:
    left = without(many, 2)
    with pytest.raises(StorageError, match="shard 2 cannot be read") as raised:
        left.search("cat at the river", mode=mode)
    assert isinstance(raised.value, MissingShards) and raised.value.numbers == {2}
    found = left.search("cat at the river", 100, mode=mode, partial=True)
    assert found.missing_shards == (2,)
    others = {one.id for one in documents(60) if shard_of(one.id, SHARDS) != 2}
    assert {one.document_id for one in found} <= others and len(found) > 10
    listed = left.search(where="part=1", k=100, partial=True)
    assert {one.document_id for one in listed} == {
        one.id for one in documents(60) if one.id in others and one.metadata["part"] == 1
    }
    assert listed.missing_shards == (2,)


def test_all_that_are_gone_are_named(many: Retriever) -> None:
    with pytest.raises(MissingShards, match="shards 0, 3 are missing"):
        without(many, 0, 3).search("cat")
    with pytest.raises(MissingShards, match="shards 0, 1, 2, 3 are missing"):
        without(many, 1, 2).search("cat", partial=True)


def test_a_whole_answer_lacks_nothing(many: Retriever, tmp_path: Path) -> None:
    assert answers(many, partial=True) == answers(many)
    assert many.search("cat", partial=True).missing_shards == ()
    with pytest.raises(UsageError, match="no document has a field"):
        many.search("cat", where="colour=red", partial=True)
    one = Retriever.create(tmp_path / "one", Encoder())
    one.add(documents(3))
    assert one.search("cat", partial=True).missing_shards == ()


class Dying(StoreShard):
    """One that ranks, and is gone when it is asked for texts."""

    def passages(self, rows: Sequence[int]) -> list[Passage]:
        raise StorageError("the disk is gone")


def test_what_breaks_off_in_the_middle_is_searched_again_without(many: Retriever) -> None:
    assert many.collection
    stores = dict(many.collection.stores())
    members = [
        Member((Dying if number == 1 else StoreShard)(store, number), frozenset([number]))
        for number, store in stores.items()
    ]
    broken = Retriever(many.collection, Encoder(), shards=Shards("wiki", members))
    with pytest.raises(MissingShards, match="shard 1 cannot be read: the disk is gone"):
        broken.search("cat at the river")
    rest = Retriever(
        many.collection, Encoder(), shards=Shards("wiki", [members[place] for place in (0, 2, 3)])
    )
    found = broken.search("cat at the river", 20, partial=True)
    assert found == rest.search("cat at the river", 20) and found.missing_shards == (1,)


def test_a_search_reads_the_generation_that_it_began_with(many: Retriever) -> None:
    assert many.collection
    shards = CollectionShards(many.collection)
    reads = []

    def read(state: Shard) -> list[int]:
        reads.append(state.encoded().of)
        many.add([Document(f"new {number}", "a new text") for number in range(8)])
        return [state.encoded().of, state.statistics("new").bm25.frequencies["new"]]

    assert shards.of_one_state(read) == [60, 0] and reads == [60]
    assert shards.of_one_state(lambda state: state.encoded().of) == 68


def test_the_command_line_names_them(tmp_path: Path) -> None:
    made = Retriever.create(tmp_path / "wiki", None, shards=SHARDS)
    made.add(documents(60))
    lose(made, 2)
    command = ["search", "cat at the river", "--index", str(tmp_path / "wiki")]
    assert CliRunner().invoke(app, command).exit_code == 1
    result = CliRunner().invoke(app, [*command, "--partial"])
    assert result.exit_code == 0 and "which cannot be read: 2\n" in result.stderr
    values = json.loads(CliRunner().invoke(app, [*command, "--partial", "--json"]).stdout)
    assert values["results"] and values["index"]["missing_shards"] == [2]


def test_a_server_says_to_come_back() -> None:
    served = FastAPI()
    answer_errors(served, {"/data/wiki": "wiki"})

    @served.get("/search")
    def search() -> None:
        raise MissingShards("/data/wiki: shard 2 cannot be read", [2])

    answer = TestClient(served, raise_server_exceptions=False).get("/search")
    assert answer.status_code == 503 and answer.headers["retry-after"]
    assert answer.json()["error"]["message"] == "wiki: shard 2 cannot be read"


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(MissingShards("gone", [3, 1])))
    assert str(error) == "gone" and error.numbers == {1, 3}
