"""Collections of shards through the retriever: made, filled, brought up to date, searched, in one process."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from flatcoat import ConflictError, Document, NotFoundError, Retriever, StorageError, UsageError
from flatcoat.indexing.collection import versions
from flatcoat.indexing.collection.collection import ShardCollection
from flatcoat.indexing.collection.folder import folder_at
from flatcoat.indexing.collection.manifest import latest, shard_of
from flatcoat.indexing.plaid import calibration
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.vectors import Vectors
from flatcoat.retrieval.distributed import update
from flatcoat.retrieval.distributed.parts import Content, partition, read_part

from ..folders import HashEncoder

WORDS = ["cat", "dog", "river", "bridge", "bread", "yeast", "sky", "light", "wave", "forest", "stone", "rain"]
QUERIES = ("cat at the river", "forest wave", "yeast and bread", "stone bridge in the rain")


class Counting(HashEncoder):
    """Counts the texts that it encodes."""

    encoded = 0

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        self.encoded += len(texts)
        return super().encode_documents(texts)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return super().encode_documents(texts)


@pytest.fixture
def encoder() -> Counting:
    return Counting("colbert")


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder of this machine, and a URL whose shards are copied to a cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield str(tmp_path / "wiki") if request.param == "local" else f"memory://{uuid4().hex}/wiki"


def documents(count: int, first: int = 0) -> list[Document]:
    random = np.random.default_rng(7)
    texts = [" ".join(random.choice(WORDS, 8)) for _ in range(first + count)]
    return [
        Document(f"d{number:03d}", f"{texts[number]} n{number}", metadata={"part": number % 3})
        for number in range(first, first + count)
    ]


def answers(retriever: Retriever, **options: Any) -> list[Any]:
    return [retriever.search(query, 10, **options) for query in QUERIES]


def single(tmp_path: Path, encoder: HashEncoder, those: Sequence[Document], **options: Any) -> Retriever:
    retriever = Retriever.create(tmp_path / f"single-{uuid4().hex}", encoder, **options)
    retriever.add(sorted(those, key=lambda one: one.id))
    return retriever


def rows_file(path: Path, those: Sequence[Document]) -> Path:
    rows = [{"id": one.id, "text": one.text, **one.metadata} for one in those]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("mode", ["vectors", "bm25", "hybrid"])
def test_a_collection_answers_as_one_index(place: str, tmp_path: Path, encoder: Counting, mode: Any) -> None:
    many = Retriever.create(place, encoder, shards=5)
    many.add(documents(60))
    expected = answers(single(tmp_path, encoder, documents(60)), mode=mode)
    for retriever in (many, Retriever.open(place, encoder)):
        assert answers(retriever, mode=mode) == expected
        assert retriever.info().documents == 60
        retriever.close()


def test_replaced_and_removed_documents_are_those_of_their_shards(
    place: str, tmp_path: Path, encoder: Counting
) -> None:
    many = Retriever.create(place, encoder, shards=4)
    many.add(documents(30))
    before = encoder.encoded
    new = [Document("d003", "a new text of cats"), *documents(5, first=30)]
    added = many.add([*documents(30)[10:20], *new])
    assert (added.found, added.documents, added.unchanged) == (16, 6, 10)
    assert encoder.encoded == before + 6
    assert many.remove(["d001", "d002", "absent"]) == 2
    left = {one.id: one for one in [*documents(30), *new] if one.id not in ("d001", "d002")}
    assert answers(many) == answers(single(tmp_path, encoder, list(left.values())))
    assert {one.id: one.text for one in many.documents()} == {id: one.text for id, one in left.items()}
    assert many.documents(["d003"])[0].text == "a new text of cats"
    assert many.remove([one.id for one in many.documents()]) == len(left)
    assert many.search("cat") == [] and many.info().documents == 0


def test_the_same_command_again_does_nothing(place: str, tmp_path: Path, encoder: Counting) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", documents(40))
    many = Retriever.create(place, encoder, shards=4)
    assert many.add_files(rows).documents == 40
    generation, before = latest(folder_at(place)).generation, encoder.encoded
    again = Retriever.open(place, encoder)
    added = again.add_files(rows)
    assert (added.documents, added.unchanged, added.found) == (0, 40, 40)
    assert (latest(folder_at(place)).generation, encoder.encoded) == (generation, before)


def test_documents_that_their_files_have_no_more_go(tmp_path: Path, encoder: Counting) -> None:
    many = Retriever.create(tmp_path / "wiki", encoder, shards=4)
    rows = rows_file(tmp_path / "rows.jsonl", documents(40))
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "river.md").write_text("# Rivers\n\nA river with a bridge.")
    many.add_files(rows, notes)
    rows_file(rows, documents(35, first=5))
    with pytest.raises(UsageError, match="notes too, whose documents"):
        many.add_files(rows)
    added = many.add_files(rows, notes)
    assert (added.removed, added.documents, added.unchanged) == (5, 0, 36)
    (found,) = many.search("rivers", 1, where="lang=markdown")
    assert (found.document_id, found.metadata["path"]) == ("river.md", "river.md")
    many.forget(notes)
    assert many.add_files(rows).removed == 1
    with pytest.raises(ConflictError, match="made of files"):
        many.add(documents(1))
    with pytest.raises(NotFoundError, match="no source"):
        many.forget(notes)


def test_files_do_not_replace_what_was_added(tmp_path: Path, encoder: Counting) -> None:
    many = Retriever.create(tmp_path / "wiki", encoder, shards=2)
    many.add(documents(3))
    with pytest.raises(ConflictError, match="added one by one"):
        many.add_files(rows_file(tmp_path / "rows.jsonl", documents(2)))


def test_of_equal_ids_the_last_counts_and_a_document_may_be_larger_than_all_others(
    tmp_path: Path, encoder: Counting
) -> None:
    large = Document("large", "\n\n".join(f"cat number {n} by the river" for n in range(400)))
    twice = [Document("twice", "the first dog"), Document("twice", "the last dog"), Document("none", "  ")]
    many = Retriever.create(tmp_path / "wiki", encoder, shards=3)
    added = many.add([*documents(9), *twice, large])
    assert [skip.reason for skip in added.skipped] == ["empty"]
    assert [one.text for one in many.documents(["twice"])] == ["the last dog"]
    assert answers(many) == answers(single(tmp_path, encoder, [*documents(9), twice[1], large]))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """PLAID from a few hundred tokens on, calibrated on a few passages."""
    monkeypatch.setattr(update, "PLAID_FROM", 600)
    monkeypatch.setattr("flatcoat.indexing.plaid.codec._FITTED_ON", 200)
    monkeypatch.setattr(calibration, "_QUERIES", 4)
    for module in ("indexing.plaid.index", "indexing.plaid.calibration", "indexing.store.compaction"):
        monkeypatch.setattr(f"flatcoat.{module}.THOROUGH", 16, raising=False)
    monkeypatch.setattr("flatcoat.indexing.plaid.operating_points.THOROUGH", 16)


@pytest.mark.parametrize("engine", ["auto", "plaid"])
def test_one_codec_is_trained_for_all_shards(
    tmp_path: Path, encoder: Counting, small: None, engine: Any
) -> None:
    settings = EngineSettings(engine, centroids=8)
    many = Retriever.create(tmp_path / "wiki", encoder, shards=4, index=settings)
    many.add(documents(90))
    manifest = latest(folder_at(tmp_path / "wiki"))
    assert manifest.codec and {one.codec for one in manifest.versions.values()} == {manifest.codec.name}
    assert encoder.encoded == 90  # Nothing was encoded twice for the sake of the sample.
    assert many.info().engine == "plaid" and manifest.calibration
    assert many.search("cat at the river", 3, mode="vectors", recall=0.5)

    many.add(documents(500, first=90))  # More than four times as many: no shard trains its own.
    after = latest(folder_at(tmp_path / "wiki"))
    assert after.codec == manifest.codec
    assert {one.codec for one in after.versions.values()} == {manifest.codec.name}
    assert many.collection and many.collection.verify() == []


def test_auto_codes_a_collection_that_has_grown(tmp_path: Path, encoder: Counting, small: None) -> None:
    many = Retriever.create(tmp_path / "wiki", encoder, shards=4)
    many.add(documents(40))
    assert latest(folder_at(tmp_path / "wiki")).codec is None and many.info().engine == "exact"
    many.add(documents(60, first=40))
    manifest = latest(folder_at(tmp_path / "wiki"))
    assert manifest.codec and {one.codec for one in manifest.versions.values()} == {manifest.codec.name}
    assert many.info().engine == "plaid" and encoder.encoded == 100


class Cut(Exception):
    """The driver dies."""


@pytest.mark.parametrize("engine", ["exact", "plaid"])
@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_build_that_was_cut_off_goes_on(
    tmp_path: Path, encoder: Counting, small: None, monkeypatch: pytest.MonkeyPatch, engine: Any, after: int
) -> None:
    monkeypatch.setattr(update, "COMMIT_SECONDS", 0)
    rows = rows_file(tmp_path / "rows.jsonl", documents(90))
    many = Retriever.create(tmp_path / "wiki", encoder, shards=6, index=EngineSettings(engine, centroids=8))
    built, build = [], update.build_shard

    def cut_off(*arguments: Any, **options: Any) -> Any:
        if len(built) == after:
            raise Cut
        built.append(build(*arguments, **options))
        return built[-1]

    monkeypatch.setattr(update, "build_shard", cut_off)
    with pytest.raises(Cut):
        many.add_files(rows)
    monkeypatch.setattr(update, "build_shard", build)
    again = Retriever.open(tmp_path / "wiki", encoder)
    again.add_files(rows)
    assert again.info().documents == 90
    assert encoder.encoded == 90
    assert sorted(one.id for one in again.documents()) == sorted(one.id for one in documents(90))
    assert again.collection and again.collection.verify() == []


def test_a_reader_keeps_its_generation_and_orphans_are_swept_after_a_day(
    place: str, encoder: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = Retriever.create(place, encoder, shards=3)
    many.add(documents(20))
    reader = Retriever.open(place, encoder)
    before = answers(reader)
    folder = folder_at(place)
    folder.create(f"shards/0001/{'0' * 32}/index.sqlite", b"of a writer that was killed")
    many.add([Document(one.id, "something else") for one in documents(20)])
    assert answers(reader) == before
    assert reader.collection and reader.collection.refresh() and not reader.collection.refresh()
    assert answers(reader) == answers(many) != before

    assert many.collection and many.collection.sweep() == []  # All of it is young.
    swept = many.collection.sweep(older_than=-1)
    assert f"shards/0001/{'0' * 32}" in swept and "collection.000001.json" in swept
    assert many.collection.verify() == []
    assert answers(Retriever.open(place, encoder)) == answers(many)


def test_of_two_writers_one_is_told(place: str, encoder: Counting) -> None:
    Retriever.create(place, encoder, shards=2).close()
    one, other = Retriever.open(place, encoder), Retriever.open(place, encoder)
    one.add(documents(10))
    with pytest.raises(ConflictError, match="another writer"):
        other.add(documents(10, first=10))
    assert Retriever.open(place, encoder).info().documents == 10


def test_damage_is_found(tmp_path: Path, encoder: Counting) -> None:
    many = Retriever.create(tmp_path / "wiki", encoder, shards=2)
    many.add(documents(20))
    assert many.collection and many.collection.verify() == []
    manifest = latest(folder_at(tmp_path / "wiki"))
    version = manifest.versions[1]
    file = tmp_path / "wiki" / "shards" / "0001" / version.version / version.files[1].name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert any("shard 1" in problem for problem in many.collection.verify())
    with pytest.raises(StorageError, match="not as it was published"):
        many.add(documents(20, first=20))  # Nothing is built on it.
    file.unlink()
    assert any("shard 1" in problem for problem in many.collection.verify())
    file.write_bytes(whole)
    assert many.collection.verify() == []


def test_a_download_that_was_cut_off_is_made_again(
    encoder: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"memory://{uuid4().hex}/wiki"
    Retriever.create(place, encoder, shards=1).add(documents(10))
    cache = tmp_path / "cache"
    fetch = versions.fetch

    def half(folder: Any, shard: int, version: Any, *, into: Path) -> None:
        fetch(folder, shard, version._replace(files=version.files[:1]), into=into)
        raise StorageError("the network went")

    monkeypatch.setattr(versions, "fetch", half)
    collection = ShardCollection.open(place, cache=cache)
    with pytest.raises(StorageError, match="the network went"):
        collection.store(0)
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(versions, "fetch", fetch)
    store = collection.store(0)
    assert store and store.stats().documents == 10
    shutil.rmtree(cache)


def test_a_collection_is_not_made_where_something_is(tmp_path: Path, encoder: Counting) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConflictError, match="choose a path"):
        Retriever.create(tmp_path, encoder, shards=2)
    for shards in (0, -1, 1 << 30, 2.0, True):
        with pytest.raises(UsageError, match="shards is"):
            Retriever.create(tmp_path / "wiki", encoder, shards=shards)  # type: ignore[arg-type]
    with pytest.raises(ConflictError, match="collection of shards"):
        _ = Retriever.create(tmp_path / "wiki", encoder, shards=2).store
    with pytest.raises(NotFoundError, match="not an index"):
        Retriever.open(tmp_path / "absent", encoder)


def test_parts_hold_every_document_once_in_the_order_of_ids(tmp_path: Path) -> None:
    those = [*documents(50), Document("é", "tonight", "Title", {"tags": ["a", "b"], "x": 1.5})]
    parts = partition([*reversed(those), those[0]], 4, folder=tmp_path)
    for shard, part in parts.items():
        ids = [one.id for one in read_part(part.path)]
        assert ids == sorted(one.id for one in those if shard_of(one.id, 4) == shard)
    assert {one.id: one for part in parts.values() for one in read_part(part.path)} == {
        one.id: one for one in those
    }


def test_the_digest_of_content_is_of_ids_and_texts() -> None:
    digests = set()
    for pairs in ([("a", "1")], [("b", "1")], [("a", "2")], [("a", "1")] * 2, []):
        content = Content()
        for id, hash in pairs:
            content.add(id, hash)
        digests.add(content.digest)
    assert len(digests) == 5
