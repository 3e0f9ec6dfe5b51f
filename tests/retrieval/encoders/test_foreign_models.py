"""A model that only an index names is data: read by flatcoat alone, or named by the user himself."""

import json
import os
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from flatcoat import Document, FlatcoatError, Retriever
from flatcoat.__main__ import app
from flatcoat.errors import UsageError
from flatcoat.indexing.store.schema import read_meta, write_meta
from flatcoat.retrieval.encoders.load import load_encoder

MakeFolder = Callable[..., Path]
Change = Callable[[Path], Any]

DOCUMENTS = [Document("cats", "cats purr"), Document("bread", "bread rises")]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is not even looked up, whatever HF_HUB_OFFLINE says."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        pytest.fail(f"asked the network for {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def index(make_colbert: MakeFolder, tmp_path: Path) -> Iterator[Path]:
    """An index of a late-interaction model that lies within it, as somebody else may send one."""
    folder = tmp_path / "evil.index"
    made = Retriever.create(folder, make_colbert())
    made.add(DOCUMENTS)
    made.close()
    shutil.copytree(make_colbert(), folder / "model")
    name_model(folder, str(folder / "model"))
    yield folder


def name_model(index: Path, name: Any) -> None:
    with closing(sqlite3.connect(index / "index.sqlite")) as connection, connection:
        contract = read_meta(connection, "contract")
        contract["encoder"]["model"] = name
        write_meta(connection, "contract", contract)


def search(index: Path, **options: Any) -> list[str]:
    """All that is found by vectors, by name: random weights put them in any order."""
    with closing(Retriever.open(index, **options)) as retriever:
        return sorted(result.document_id for result in retriever.search("cats purr", mode="vectors"))


def said(file: str, **values: Any) -> Change:
    """Changes settings in a JSON file; None takes one out."""

    def change(model: Path) -> None:
        held = json.loads((model / file).read_text()) | values
        (model / file).write_text(json.dumps({name: held[name] for name in held if held[name] is not None}))

    return change


def module(place: int, **values: Any) -> Change:
    def change(model: Path) -> None:
        modules = json.loads((model / "modules.json").read_text())
        modules[place] |= values
        (model / "modules.json").write_text(json.dumps(modules))

    return change


def content(file: str, data: bytes) -> Change:
    return lambda model: (model / file).write_bytes(data)


def pipe(file: str) -> Change:
    def change(model: Path) -> None:
        (model / file).unlink()
        os.mkfifo(model / file)

    return change


def link_out(file: str) -> Change:
    def change(model: Path) -> None:
        shutil.move(model / file, model.parent.parent / "elsewhere")
        (model / file).symlink_to(model.parent.parent / "elsewhere")

    return change


def hole(file: str, shape: tuple[int, int], tensor: str) -> Change:
    """A safetensors file that says it is petabytes, and on the disk is nothing."""

    def change(model: Path) -> None:
        size = 4 * shape[0] * shape[1]
        header = json.dumps({tensor: {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
        with (model / file).open("wb") as stream:
            stream.write(struct.pack("<Q", len(header)) + header)
            stream.truncate(8 + len(header) + size)

    return change


SETTINGS = "config_sentence_transformers.json"
CHANGES: dict[str, tuple[Change, str]] = {
    "a class of its own": (module(0, type="payload.Boom"), "names code of its own"),
    "a class of its own, called as ours": (module(1, type="payload.Dense"), "names code of its own"),
    "a type that is no name": (module(1, type=7), "its type is 7"),
    "a folder above": (module(1, path="../x"), "names the folder '../x'"),
    "an absolute folder": (module(1, path="/etc"), "names the folder '/etc'"),
    "modules that are no list": (content("modules.json", b"{}"), "holds dict in JSON where a list"),
    "no modules": (content("modules.json", b"[]"), "its first module is no transformer"),
    "another backbone": (said("config.json", model_type="deberta-v2"), "its backbone is 'deberta-v2'"),
    "no backbone": (said("config.json", model_type=None), "it lacks the setting 'model_type'"),
    "code in auto_map": (said("config.json", auto_map={"AutoModel": "x--y.Boom"}), "code of its own"),
    "trust asked for": (
        said("sentence_bert_config.json", model_args={"trust_remote_code": True}),
        "unknown settings of its transformer: model_args",
    ),
    "a tokenizer of its own": (
        said("tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Boom", None]}),
        "unknown settings: auto_map",
    ),
    "a pipe": (pipe("config.json"), "it has no config.json"),
    "a pipe for a tokenizer": (pipe("tokenizer.json"), "it has no tokenizer.json"),
    "a pipe for settings": (pipe(SETTINGS), "no pooling follows its transformer"),
    "a link out": (link_out("config.json"), "its config.json lies outside of its folder"),
    "a link out for weights": (link_out("model.safetensors"), "its model.safetensors lies outside"),
    "endless JSON": (content("config.json", b"[" + b"1," * (9 << 20)), "is larger than 16 MiB"),
    "deep JSON": (content("config.json", b'{"a":' * 100_000), "is not JSON"),
    "deep JSON for settings": (content(SETTINGS, b"[" * 100_000), "is not JSON"),
    "JSON that is no object": (content("config.json", b"[1]"), "holds list in JSON"),
    "bytes": (content("config.json", b"\xff\xfe\x00"), "is not JSON"),
    "a damaged tokenizer": (content("tokenizer.json", b'{"version": "1.0"}'), "is no tokenizer"),
    "a deep tokenizer": (content("tokenizer.json", b"[" * 100_000), "is no tokenizer"),
    "layers without end": (said("config.json", num_hidden_layers=10**12), "num_hidden_layers is 10{12}:"),
    "too many layers": (
        said("config.json", num_hidden_layers=1000, layer_types=None),
        "lacks 5976 weights that its config names",
    ),
    "a width without end": (said("config.json", hidden_size=10**15), "hidden_size is 10{15}:"),
    "another width": (said("config.json", hidden_size=128), "has shape"),
    "words without end": (said("config.json", vocab_size=10**7), "has shape"),
    "sizes that are no numbers": (said("config.json", hidden_size="64"), "hidden_size is '64'"),
    "half a token": (said("config.json", local_attention=-16), "local_attention is -16"),
    "a wide projection": (said("1_Dense/config.json", out_features=10**12), "does not fit"),
    "a projection of another width": (said("1_Dense/config.json", in_features=1), "does not fit"),
    "long queries": (said(SETTINGS, query_length=10**12, do_query_expansion=True), "query_length is 10{12}"),
    "short queries": (said(SETTINGS, query_length=1), "its query_length is 1"),
    "long documents": (said(SETTINGS, document_length=10**12), "its document_length is 10{12}"),
    "weights of holes": (
        hole("model.safetensors", (1 << 20, 1 << 21), "embeddings.tok_embeddings.weight"),
        "larger than this machine's memory",
    ),
    "a projection of holes": (
        hole("1_Dense/model.safetensors", (1 << 20, 1 << 21), "linear.weight"),
        "larger than this machine's memory",
    ),
    "weights that are none": (content("model.safetensors", b"\xff" * 64), "cannot be read as safetensors"),
    "a projection that is none": (content("1_Dense/model.safetensors", b"\xff" * 64), "as safetensors"),
    "a pickle": (
        lambda model: (model / "model.safetensors").rename(model / "pytorch_model.bin"),
        "it has no model.safetensors",
    ),
    "nothing": (lambda model: shutil.rmtree(model) or model.mkdir(), "it has no modules.json"),
}


def test_a_model_within_an_index_is_read(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert search(index) == ["bread", "cats"]
    monkeypatch.chdir(index.parent)
    name_model(index, "evil.index/model")
    assert search(index) == ["bread", "cats"]


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_no_model_of_ours_is_refused_and_said(index: Path, name: str) -> None:
    change, reason = CHANGES[name]
    change(index / "model")
    (index / "model" / "payload.py").write_text("open('/tmp/flatcoat-payload-ran', 'w')")
    with pytest.raises(FlatcoatError, match=reason) as raised:
        search(index)
    message = str(raised.value)
    assert message.startswith(f"index {index} was made with the model {index / 'model'}")
    assert message.endswith(f"name it yourself with --model {index / 'model'} (in Python with model=)")
    assert message.isprintable() and len(message) < 900
    assert not Path("/tmp/flatcoat-payload-ran").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nobody/no-such-model", "neither a folder nor in the local cache"),
        ("https://example.com/model", "neither a folder nor a name"),
        ("../../etc", "neither a folder nor a name"),
        ("/etc/hostname", "neither a folder nor a name"),
        ("a\x1b[31m\nb", "neither a folder nor a name"),
        ("x" * 5_000, "File name too long|neither a folder"),
        ("\0", "neither a folder nor a name"),
        ("/etc", "it has no modules.json"),
        ("", "neither a folder nor a name|it has no modules.json"),
    ],
)
def test_names_that_lead_to_no_model_are_refused(
    index: Path, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(index.parent)
    name_model(index, name)
    with pytest.raises(FlatcoatError, match=reason) as raised:
        search(index)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1_200


def test_a_model_that_was_moved_is_named_by_its_new_folder(index: Path, tmp_path: Path) -> None:
    (index / "model").rename(tmp_path / "moved")
    with pytest.raises(UsageError, match=r"no longer there: .* --model .* or index the same files anew"):
        search(index)
    assert search(index, model=tmp_path / "moved") == ["bread", "cats"]


@pytest.mark.parametrize("name", [7, None, ["a"], {"a": 1}])
def test_a_name_that_is_no_text_is_refused(index: Path, name: Any) -> None:
    name_model(index, name)
    with pytest.raises(FlatcoatError, match="the index's contract is damaged: model is"):
        Retriever.open(index)


def test_a_folder_behind_a_link_is_refused(index: Path, make_colbert: MakeFolder) -> None:
    shutil.rmtree(index / "model")
    (index / "model").symlink_to(make_colbert())
    with pytest.raises(FlatcoatError, match="a link leads there"):
        search(index)
    (index / "up").symlink_to(make_colbert().parent)
    name_model(index, str(index / "up" / make_colbert().name))
    with pytest.raises(FlatcoatError, match="a link leads there"):
        search(index)
    assert search(index, model=make_colbert()) == ["bread", "cats"]


def test_a_model_in_the_hubs_cache_is_read(
    index: Path, make_colbert: MakeFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the hub's own client lays it out: links to blobs."""
    repository = tmp_path / "cache" / "models--somebody--colbert"
    snapshot, blobs = repository / "snapshots" / ("0" * 40), repository / "blobs"
    shutil.copytree(make_colbert(), snapshot)
    blobs.mkdir()
    for number, file in enumerate([file for file in snapshot.rglob("*") if file.is_file()]):
        file.rename(blobs / str(number))
        file.symlink_to(blobs / str(number))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    name_model(index, "somebody/colbert")
    assert search(index) == ["bread", "cats"]
    name_model(index, str(snapshot))
    assert search(index) == ["bread", "cats"]


@pytest.mark.parametrize("late", [True, False])
def test_a_model_of_another_library_is_named_by_the_user(
    make_colbert: MakeFolder, make_dense: MakeFolder, foreign_folder: Path, tmp_path: Path, late: bool
) -> None:
    folder, index = (make_colbert if late else make_dense)(foreign_folder), tmp_path / "index"
    Retriever.create(index, folder).add(DOCUMENTS)
    with pytest.raises(FlatcoatError, match=rf"its backbone is 'deberta-v2'.* --model {folder} "):
        search(index)
    assert search(index, model=folder) == ["bread", "cats"]
    assert Retriever.open(index).search("cats", mode="bm25")[0].document_id == "cats"
    done = CliRunner().invoke(app, ["search", "cats purr", "--index", str(index)])
    assert done.exit_code == 1 and "--model" in done.output + str(done.exception)
    named = CliRunner().invoke(app, ["search", "cats purr", "--index", str(index), "--model", str(folder)])
    assert named.exit_code == 0 and "cats" in named.output


def test_the_model_inside_keeps_its_name(tmp_path: Path) -> None:
    Retriever.create(tmp_path / "index").add(DOCUMENTS)
    assert search(tmp_path / "index") == ["bread", "cats"]


def test_a_dense_model_named_by_an_index_is_as_the_user_would_load_it(
    make_dense: MakeFolder, tmp_path: Path, texts: list[str]
) -> None:
    folder = make_dense(pooling="cls", project=True)
    Retriever.create(tmp_path / "index", folder).add(DOCUMENTS)
    found = Retriever.open(tmp_path / "index").encoder
    expected = load_encoder(folder)
    assert found.contract == expected.contract
    np.testing.assert_array_equal(found.encode_documents(texts), expected.encode_documents(texts))


def test_no_other_library_is_imported_for_a_named_model(index: Path) -> None:
    code = """
import sys
from flatcoat import Retriever
assert Retriever.open(sys.argv[1]).search("cats purr", 1)
heavy = ("transformers", "sentence_transformers", "pylate", "datasets")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(index)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_what_needs_no_model_loads_none(index: Path) -> None:
    shutil.rmtree(index / "model")
    with closing(Retriever.open(index)) as retriever:
        assert retriever.search("cats", mode="bm25", explain=True)[0].document_id == "cats"
        assert retriever.info().documents == 2
        assert retriever.store.verify() == []
        assert retriever.remove(["bread"]) == 1
        retriever.compact()
