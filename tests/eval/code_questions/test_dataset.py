"""Data sets of code questions from archives that are made here: fetched, checked, unpacked, read as files."""

import io
import json
import tarfile
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from flatcoat.errors import DataError, FlatcoatError, NotFoundError
from flatcoat.eval.benchmarks import load_tasks
from flatcoat.eval.code_questions import dataset as code_questions
from flatcoat.eval.code_questions.dataset import packages, plan_code_questions
from flatcoat.eval.code_questions.sources import cache_folder, source_folder
from flatcoat.indexing.reading.readers import read_documents

FILES = {
    "src/nest.py": "def build_nest(twigs):\n    return sorted(twigs)\n",
    "src/song.rs": "fn sing() {}\n",
    "docs/guide.md": "# Guide\n\nHow to build.\n",
    "dist/nest.min.py": "def a(b):return sorted(b)\n",
    "image.bin": "\0\1\2",
}
QUESTIONS = [
    {"id": "wren-1", "kind": "symbol", "text": "build_nest", "targets": {"src/nest.py": 2}},
    {"id": "wren-2", "kind": "function", "text": "make a tune", "targets": {"src/song.rs": 2}},
    {"id": "wren-3", "kind": "place", "text": "where are twigs put in order", "targets": {"src/nest.py": 2}},
]

Make = Callable[..., Path]


def archive(files: dict[str, str]) -> bytes:
    """A .tar.gz of one folder, with a link that leads out of it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for path, text in files.items():
            member = tarfile.TarInfo(f"wren-1.0/{path}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("wren-1.0/passwd")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return data.getvalue()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Serve a mirror with one archive, and write the questions about it; returns the folder of questions."""

    def make(content: bytes | None = None, expected: str = "", targets: dict[str, int] | None = None) -> Path:
        content = archive(FILES) if content is None else content
        pool = tmp_path / "mirror" / "pool"
        pool.mkdir(parents=True)
        (pool / "wren_1.0.tar.gz").write_bytes(content)
        package = {"name": "wren", "registry": "debian", "version": "1.0", "file": "wren_1.0.tar.gz"}
        package |= {"sha256": expected or sha256(content).hexdigest(), "licence": "MIT", "language": "Python"}
        package |= {"split": "dev", "exclude": ["dist/"], "pool": "pool/wren_1.0.tar.gz"}
        folder = tmp_path / "questions"
        folder.mkdir()
        (folder / "packages.json").write_text(json.dumps([package]))
        rows = [{"package": "wren", "path_free": number == 1} | row for number, row in enumerate(QUESTIONS)]
        if targets:
            rows[0]["targets"] = targets
        (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "mirror"))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("FLATCOAT_DEBIAN_MIRROR", f"http://127.0.0.1:{server.server_port}")
        return folder

    servers: list[ThreadingHTTPServer] = []
    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def load(folder: Path, cache: Path, name: str = "code-questions", split: str | None = "dev"):
    plan = plan_code_questions(name, split, folder=folder, cache=cache)
    (dataset,) = (load() for load in plan.values())
    return dataset


def test_a_package_is_a_data_set_of_its_files_as_flatcoat_index_reads_them(mirror: Make, tmp_path: Path):
    folder, cache = mirror(), tmp_path / "cache"
    dataset = load(folder, cache)
    assert (dataset.name, dataset.split, dataset.benchmark) == (
        "code-questions:wren",
        "dev",
        "code-questions",
    )
    assert [document.id for document in dataset.documents] == ["docs/guide.md", "src/nest.py", "src/song.rs"]
    assert len(dataset.documents) == 3
    (package,) = packages(folder)
    read = read_documents(source_folder(package, cache), exclude=["/dist/"], on_skip=lambda *skip: None)
    assert list(dataset.documents) == list(read)
    assert {document.metadata["lang"] for document in dataset.documents} == {"markdown", "python", "rust"}
    assert dataset.queries["wren-1"] == "build_nest"
    assert dataset.qrels["wren-2"] == {"src/song.rs": 2}
    assert {name: sorted(members) for name, members in dataset.groups.items()} == {
        "symbol": ["wren-1"],
        "function": ["wren-2"],
        "place": ["wren-3"],
        "path-free": ["wren-2"],
    }
    assert not (source_folder(package, cache) / "passwd").exists(), "links are left out"


def test_what_is_in_the_cache_is_not_fetched_again(mirror: Make, tmp_path: Path, monkeypatch):
    folder, cache = mirror(), tmp_path / "cache"
    first = load(folder, cache)
    monkeypatch.setenv("FLATCOAT_DEBIAN_MIRROR", "http://127.0.0.1:9")
    again = load(folder, cache)
    assert again.revision == first.revision
    assert list(again.documents) == list(first.documents)


def test_a_named_package_needs_no_split(mirror: Make, tmp_path: Path):
    folder = mirror()
    assert load(folder, tmp_path / "cache", "code-questions:wren", None).split == "dev"
    with pytest.raises(NotFoundError, match="has no package 'robin': choose one of wren"):
        load(folder, tmp_path / "cache", "code-questions:robin")
    with pytest.raises(NotFoundError, match="has no split 'test': choose one of dev"):
        load(folder, tmp_path / "cache", split=None)


@pytest.mark.parametrize(
    ("options", "leaf", "message"),
    [
        ({"expected": "0" * 64}, DataError, "000000000000... was recorded"),
        ({"content": b"no archive"}, DataError, "cannot be unpacked"),
        ({"targets": {"dist/nest.min.py": 2}}, DataError, "no text file dist/nest.min.py"),
    ],
)
def test_a_package_that_is_not_what_was_recorded_is_refused(
    mirror: Make, tmp_path: Path, options: dict, leaf: type[FlatcoatError], message: str
):
    with pytest.raises(leaf, match=message):
        load(mirror(**options), tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob(".*")), "nothing half done is left"


def test_an_archive_that_the_mirror_lacks_is_not_found(mirror: Make, tmp_path: Path):
    folder = mirror()
    (tmp_path / "mirror" / "pool" / "wren_1.0.tar.gz").unlink()
    with pytest.raises(NotFoundError, match=r"wren_1\.0\.tar\.gz cannot be fetched from 127\.0\.0\.1: .*404"):
        load(folder, tmp_path / "cache")


def test_the_benchmark_is_known_by_name_and_split(mirror: Make, tmp_path: Path, monkeypatch):
    folder = mirror()
    monkeypatch.setattr(code_questions, "_DATA", folder)
    monkeypatch.setenv("FLATCOAT_CODE_QUESTIONS_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    (dataset,) = load_tasks(["code-questions", "code-questions:wren"], "dev")
    assert len(dataset.queries) == 3
    assert (tmp_path / "own" / "archives" / "wren_1.0.tar.gz").is_file()
    with pytest.raises(NotFoundError, match="no split 'train'"):
        load_tasks(["code-questions"], "train")
