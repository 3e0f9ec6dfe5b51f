"""Errors of evaluation, by what a caller can do about them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flatcoat.errors import DataError, FlatcoatError, MissingExtraError, NotFoundError, UsageError
from flatcoat.eval.bench.encode import bench_encoding
from flatcoat.eval.bench.search_peers import engines
from flatcoat.eval.benchmarks import load_tasks
from flatcoat.eval.compare.comparison import compare_results
from flatcoat.eval.glue.data import load_folder
from flatcoat.eval.glue.fine_tune import Settings
from flatcoat.eval.glue.tasks import TASKS
from flatcoat.eval.metrics import evaluate
from flatcoat.eval.records import RECORD, read_records
from flatcoat.eval.significance import paired_differences
from flatcoat.eval.systems.selection import parse_engine
from flatcoat.eval.systems.streamed import require_finite
from flatcoat.eval.trec_files import read_per_query, read_run, write_run
from flatcoat.indexing.documents import Document

NAN = np.full((1, 2), np.nan, dtype=np.float32)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with a malformed file of each kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flatcoat.eval.bench.search_peers.find_spec", lambda name: None)
    Path("broken.trec").write_text("q Q0\n")
    Path("records").mkdir()
    Path("records", RECORD).write_text("{")
    Path("cola").mkdir()
    for name in ("train.tsv", "dev.tsv"):
        Path("cola", name).write_text("a\tb\n")


@pytest.mark.parametrize(
    ("leaf", "call"),
    [
        (UsageError, lambda: parse_engine("hnsw")),
        (UsageError, lambda: evaluate({}, {"q": {"a": 1}}, measures=["bogus"])),
        (UsageError, lambda: engines(["lucene"])),
        (UsageError, lambda: bench_encoding("base", ["short"])),
        (UsageError, lambda: Settings(-1, 0, 1)),
        (NotFoundError, lambda: bench_encoding("huge")),
        (NotFoundError, lambda: load_tasks(["./nowhere"])),
        (NotFoundError, lambda: compare_results([Path("cola")], "ndcg@10")),
        (NotFoundError, lambda: load_folder(TASKS["cola"], Path())),
        (MissingExtraError, lambda: engines(["xtr-warp-rs"])),
        (DataError, lambda: read_records([Path()])),
        (DataError, lambda: read_run(Path("broken.trec"))),
        (DataError, lambda: read_per_query(Path("missing.tsv"))),
        (DataError, lambda: write_run(Path("a.trec"), {"q 1": {"d": 1.0}}, tag="t")),
        (DataError, lambda: evaluate({"q": {"d": float("nan")}}, {"q": {"d": 1}})),
        (DataError, lambda: paired_differences({"a": 1.0}, {"b": 1.0})),
        (DataError, lambda: require_finite([Document("a", "text")], NAN)),
        (DataError, lambda: load_folder(TASKS["cola"], Path("cola"))),
    ],
)
def test_an_error_is_the_leaf_on_which_a_caller_acts(
    leaf: type[FlatcoatError], call: Callable[[], object]
) -> None:
    with pytest.raises(FlatcoatError) as caught:
        call()
    assert isinstance(caught.value, leaf)
