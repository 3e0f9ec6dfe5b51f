"""``flatcoat info MODEL``: which code loads and computes a model, and why."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flatcoat import Retriever
from flatcoat.__main__ import app
from flatcoat.errors import NotFoundError
from flatcoat.retrieval.encoders.how_it_runs import PACKED, how_it_runs
from flatcoat.retrieval.encoders.load import SHIPPED_NAME

MakeFolder = Callable[..., Path]


def test_what_flatcoat_reads_and_computes(
    make_colbert: MakeFolder, make_dense: MakeFolder, bases: dict[str, Path]
) -> None:
    for name, base in bases.items():
        for make, kind in ((make_colbert, "late interaction"), (make_dense, "dense")):
            found = how_it_runs(str(make(base)))
            assert (found.kind, found.backbone) == (kind, name)
            assert (found.computed_by, found.loaded_by) == (PACKED, "flatcoat")
            assert not found.why_not_packed + found.why_not_read
    assert how_it_runs(SHIPPED_NAME).kind == "late interaction"


def test_what_is_left_to_other_libraries(
    make_colbert: MakeFolder, foreign_folder: Path, bert_folder: Path, tmp_path: Path
) -> None:
    found = how_it_runs(str(make_colbert(foreign_folder)))
    assert (found.computed_by, found.loaded_by) == ("transformers", "sentence-transformers")
    assert found.why_not_packed.startswith(
        "model_type is 'deberta-v2': known are modernbert, mosaicbert, bert"
    )
    assert found.why_not_read == "its backbone is 'deberta-v2'"
    bare = how_it_runs(str(bert_folder))
    assert (bare.computed_by, bare.loaded_by) == (PACKED, "sentence-transformers")
    assert bare.why_not_read == "it has no modules.json"
    with pytest.raises(NotFoundError, match=r"has no config\.json"):
        how_it_runs(str(tmp_path))
    Retriever.create(tmp_path / "index").close()
    with pytest.raises(NotFoundError, match=rf"of an index: flatcoat info --index {tmp_path / 'index'}"):
        how_it_runs(str(tmp_path / "index"))


def test_the_command_says_so(make_dense: MakeFolder, foreign_folder: Path, bert_folder: Path) -> None:
    def said(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["info", *arguments])
        assert done.exit_code == 0, done.output
        return done.output

    lines = said(str(make_dense(bert_folder))).splitlines()
    assert lines[0].endswith("dense, bert")
    assert lines[1:] == ["computed by: flatcoat, packed", "loaded by: flatcoat"]
    assert "computed by: transformers (model_type is 'deberta-v2'" in said(str(make_dense(foreign_folder)))
    assert json.loads(said(SHIPPED_NAME, "--json"))["computed_by"] == PACKED
