"""The search benchmark on collections small enough for a test, and on engines that fail."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner

from flatcoat import FlatcoatError
from flatcoat.__main__ import app
from flatcoat.eval.bench import OURS
from flatcoat.eval.bench.collections import Collection, EncodedFolder, read_vectors, write_vectors
from flatcoat.eval.bench.plot_search import draw_search
from flatcoat.eval.bench.search import QUALITIES, SearchRow, bench_search, recall
from flatcoat.eval.bench.search_peers import EXACT, Engine, engines
from flatcoat.eval.bench.search_process import Task
from flatcoat.eval.bench.search_timing import DEEP, time_engines
from flatcoat.eval.bench.synthetic import QUERY_TOKENS, Synthetic
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.vectors import TokenVectors

WriteBeir = Callable[..., Path]

FAULTY = """
import os

def build(vectors, folder):
    print("this must not be seen")
    os.write(2, b"nor this")
    (folder / "index").write_bytes(bytes(len(vectors)))

def build_badly(vectors, folder):
    raise ValueError(f"{len(vectors)} passages are\\ntoo few")

def open_index(log, name, folder, allowed):
    def search(query_UD, k):
        with log.open("a") as file:
            print(name, k, file=file)
        return list(range(k))
    return search

def open_to_panic(folder, allowed):
    class PanicException(BaseException):
        pass
    def search(query_UD, k):
        if k > 10:
            raise PanicException("at the hundred")
        return []
    return search

def open_to_die(folder, allowed):
    return lambda query_UD, k: os._exit(3) if k > 10 else []
"""


@pytest.fixture
def small(tmp_path: Path) -> Collection:
    return Synthetic(200, 30, 32).collection(tmp_path, 12)


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Engines that fail; a module on the path, as child processes import it by name."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faulty", raising=False)
    import faulty

    return faulty


def together(blocks: Sequence[TokenVectors]) -> TokenVectors:
    return TokenVectors.from_list([matrix for block in blocks for matrix in block])


def test_synthetic_passages_are_drawn_alike_whatever_their_number() -> None:
    few, many = (together(list(Synthetic(count, 9, 16).blocks())) for count in (300, 2100))
    assert (len(few), len(many)) == (300, 2100)
    assert np.array_equal(few.values_TD, many.values_TD[: len(few.values_TD)])
    other = together(list(Synthetic(300, 9, 16, seed=1).blocks()))
    assert not np.array_equal(few.values_TD[:9], other.values_TD[:9])
    lengths_N = np.diff(many.offsets)
    assert abs(lengths_N.mean() - 9) < 0.2
    assert 1 <= lengths_N.min() < 6 < 12 < lengths_N.max() <= 18
    norms_T = np.linalg.norm(many.values_TD.astype(np.float32), axis=1)
    assert many.values_TD.dtype == np.float16
    assert np.allclose(norms_T, 1, atol=1e-3)


def test_synthetic_queries_find_their_passage_before_others_of_its_topics() -> None:
    drawn = Synthetic(1000, 60, 64)
    queries = drawn.queries(40)
    assert np.diff(queries.offsets).tolist() == [QUERY_TOKENS] * 40
    assert np.allclose(np.linalg.norm(queries.values_TD, axis=1), 1, atol=1e-5)
    index = ExactIndex.from_vectors([str(i) for i in range(1000)], together(list(drawn.blocks())))
    found = index.search(queries, 1000)
    assert sum(hits.ids[0] == str(query) for query, hits in enumerate(found)) > 35
    scores = np.mean([hits.scores[[1, 9, 500]] for hits in found], axis=0) / QUERY_TOKENS
    assert scores[0] > scores[1] > 1.2 * scores[2], "no passage is near but the source"


def test_vectors_come_back_from_their_file(tmp_path: Path) -> None:
    blocks = [
        TokenVectors(np.random.default_rng(i).normal(size=(6, 4)), np.array([0, 2, 2, 6])) for i in range(2)
    ]
    assert write_vectors(tmp_path, blocks) == 6
    expected = together(blocks)
    found = read_vectors(tmp_path, 6)
    assert np.array_equal(found.values_TD, expected.values_TD.astype(np.float16))
    assert np.array_equal(found.offsets, expected.offsets)
    assert read_vectors(tmp_path, 4).offsets.tolist() == [0, 2, 2, 6, 8]


def test_a_folder_is_encoded_with_queries_that_it_answers(
    write_beir: WriteBeir, loaded: list[str | None], tmp_path: Path
) -> None:
    folder = write_beir()
    made = EncodedFolder(folder, "org/words").collection(tmp_path, 9)
    assert loaded == ["org/words"]
    assert (made.passages, len(made.queries)) == (4, 2)
    assert sorted(made.grades.values(), key=len) == [{0: 2}, {1: 1, 2: 1}]
    index = ExactIndex.from_vectors(["0", "1", "2", "3"], made.vectors(4))
    for query, hits in enumerate(index.search(made.queries, 1)):
        assert int(hits.ids[0]) in made.grades[query]
    fewer = EncodedFolder(folder, "org/words", limit=2).collection(tmp_path, 9)
    assert (fewer.passages, sorted(map(str, fewer.grades.values()))) == (2, ["{0: 2}", "{1: 1}"])
    assert EncodedFolder(folder, "org/words", judged_within=1).collection(tmp_path, 9).grades == {0: {0: 2}}
    with pytest.raises(FlatcoatError, match="bag makes one vector per text"):
        EncodedFolder(folder, "org/bag").collection(tmp_path, 9)


def test_a_folder_without_answers_is_refused(write_beir: WriteBeir, tmp_path: Path) -> None:
    folder = write_beir(test="q2\tbirds\t1\nq1\tcats\t0\n")
    with pytest.raises(FlatcoatError, match="no query of pets is answered by its first 2 documents"):
        EncodedFolder(folder, limit=2).collection(tmp_path, 9)


def test_recall_counts_what_exists() -> None:
    assert recall([[1, 2, 9], [4, 5, 6]], [[2, 1, 3], [7, 8, 9]], k=3) == pytest.approx(1 / 3)
    assert recall([[3, 1, 2]], [[1, 2, 3]], k=1) == 0
    assert recall([[5]], [[5]], k=100) == 1


def test_ours_is_near_exact_search_and_smaller(small: Collection) -> None:
    rows = bench_search(small, engines([EXACT, OURS]), passes=2)
    exact, *ours = rows
    assert {row.engine for row in ours} == {OURS}
    assert (exact.engine, exact.quality["recall@10"], exact.quality["recall@100"]) == (EXACT, 1, 1)
    tokens = int(small.vectors(200).offsets[-1])
    for row in rows:
        assert (row.error, row.passages, row.tokens) == (None, 200, tokens)
        assert row.build_seconds and row.bytes_per_token
        assert row.ms_per_query and row.ms_p95 and row.ms_cold
        assert row.ms_per_query <= row.ms_p95
        assert row.quality["ndcg@10"] is None
        assert set(row.to_json()) == {*vars(row), *QUALITIES} - {"quality"}
    default, compact = ours[0], ours[-1]
    assert default.quality["recall@10"] > 0.9
    assert exact.bytes_per_token > default.bytes_per_token > compact.bytes_per_token
    assert exact.bytes_per_token == pytest.approx(2 * 32, rel=0.1)


def test_a_filter_and_sizes_ask_for_less(small: Collection) -> None:
    said: list[str] = []
    rows = bench_search(
        small, engines([EXACT]), share=0.1, passes=1, sizes=[150, 50], on_progress=said.append
    )
    assert [row.passages for row in rows] == [50, 150]
    assert all(row.quality["recall@10"] == row.quality["recall@100"] == 1 for row in rows)
    assert said[0] == "50 passages: building exact"
    with pytest.raises(FlatcoatError, match="201 passages are asked for: 1 to 200 are there"):
        bench_search(small, engines([EXACT]), sizes=[201])


def test_judged_queries_are_scored(small: Collection) -> None:
    judged = replace(small, grades={query: {query: 1} for query in range(12)})
    (row,) = bench_search(judged, engines([EXACT]), passes=1)
    assert row.quality["ndcg@10"] > 0.7
    (row,) = bench_search(judged, engines([EXACT]), passes=1, share=0.5)
    assert row.quality["ndcg@10"] is None


def test_engines_take_turns(small: Collection, faulty: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log"
    both = [Engine(name, faulty.build, {"": partial(faulty.open_index, log, name)}) for name in "ab"]
    task = Task(small.folder, 200, list(small.queries), 10)
    found = time_engines(task, both, passes=1)
    # Each is built, searched once in the process that built it and once in its own.
    turns = [
        f"{name} {k}" for k in (DEEP, 10) for queries in (10, 2) for name in "ab" for _ in range(queries)
    ]
    assert log.read_text().splitlines() == ["a 10", "a 10", "b 10", "b 10", *turns]
    assert [[len(answers) for answers in one.passes] for one in found] == [[12, 12]] * 2
    assert [answer.passages for answer in found[0].passes[1]] == [list(range(10))] * 12
    assert found[0].bytes == 200


def test_a_failing_engine_is_a_row_and_stays_silent(
    small: Collection, faulty: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = bench_search(
        small,
        [
            Engine("unbuilt", faulty.build_badly, {"a": faulty.open_to_die, "b": faulty.open_to_die}),
            Engine("panics", faulty.build, {"": faulty.open_to_panic}),
            Engine("dies", faulty.build, {"": faulty.open_to_die}),
            Engine("unknown", faulty.build, {"": faulty.build}, ("no_such_module",)),
            *engines([EXACT]),
        ],
        passes=1,
    )
    assert [(row.engine, row.settings, row.error) for row in rows] == [
        ("unbuilt", "a", "ValueError: 200 passages are"),
        ("unbuilt", "b", "ValueError: 200 passages are"),
        ("panics", "", "PanicException: at the hundred"),
        ("dies", "", "its process died"),
        ("unknown", "", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("exact", "", None),
    ]
    assert rows[0].build_seconds is None
    assert rows[3].ms_cold and rows[3].ms_per_query is None
    assert rows[-1].quality["recall@10"] == 1
    assert capfd.readouterr() == ("", "")


def test_unknown_and_missing_engines_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FlatcoatError, match="no engine 'lucene': known are exact, flatcoat, fast-plaid"):
        engines(["lucene"])
    monkeypatch.setattr("flatcoat.eval.bench.search_peers.find_spec", lambda name: name != "xtr_warp")
    with pytest.raises(FlatcoatError, match="xtr-warp-rs is not installed: pip install xtr-warp-rs"):
        engines(["xtr-warp-rs"])
    assert [engine.name for engine in engines()] == [EXACT, OURS, OURS, "fast-plaid"]
    monkeypatch.setattr("flatcoat.eval.bench.search_peers.find_spec", lambda name: None)
    assert [engine.name for engine in engines()] == [EXACT, OURS, OURS]


@pytest.mark.slow
def test_the_peers_search_the_same_vectors(small: Collection) -> None:
    pytest.importorskip("pylate")
    rows = bench_search(small, engines(), passes=1)
    assert {row.engine for row in rows} >= {EXACT, OURS, "fast-plaid"}
    for row in rows:
        assert row.error is None, f"{row.engine}: {row.error}"
        assert row.quality["recall@10"] > 0.3, "ten drawn by chance have 0.05"
    share = 0.1
    filtered = bench_search(small, engines(["fast-plaid"]), share=share, passes=1)
    assert all(row.quality["recall@10"] > 0.9 for row in filtered)


ARGUMENTS = ["bench", "search", "--engine", "exact", "--passages", "200", "--tokens", "20", "--width", "16"]


def test_the_command_prints_json_and_draws(tmp_path: Path) -> None:
    picture = tmp_path / "search.png"
    arguments = [*ARGUMENTS, "--passes", "1", "--queries", "5", "--filter", "0.5", "--sizes", "100,200"]
    done = CliRunner().invoke(app, [*arguments, "--json", "--plot", str(picture)])
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert {name: values[name] for name in ("k", "queries", "width", "filter")} == {
        "k": 10,
        "queries": 5,
        "width": 16,
        "filter": 0.5,
    }
    assert [(row["passages"], row["recall@10"]) for row in values["rows"]] == [(100, 1), (200, 1)]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_a_table() -> None:
    done = CliRunner().invoke(app, [*ARGUMENTS, "--passes", "1"])
    assert done.exit_code == 0, done.output
    for part in (
        "200 passages",
        "B/token",
        "nDCG@10",
        "1.000",
        "k 10, queries 20, width 16; ",
    ):
        assert part in done.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--sizes", "1k"], "1k came"),
        (["--model", "org/words"], "name a FOLDER"),
        ([".", "--width", "16"], "only synthetic vectors"),
        (["--k", "5"], "not in the range x>=10"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments: list[str], complaint: str) -> None:
    done = CliRunner().invoke(app, ["bench", "search", *arguments])
    assert done.exit_code == 2
    assert complaint in " ".join(done.output.replace("│", " ").split())


def test_labels_of_the_picture_touch_neither_each_other_nor_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, file: drawn.append(figure))
    rows = [
        SearchRow(
            engine=engine,
            settings=settings,
            passages=size,
            tokens=10 * size,
            ms_per_query=ms * size**0.5,
            quality=dict.fromkeys(QUALITIES, quality),
        )
        for size in (100, 1000)
        for engine, settings, ms, quality in [
            ("exact", "", 9, 1.0),
            ("flatcoat", "4 bits", 1, 0.98),
            ("flatcoat", "4 bits, n_candidates 1024", 1.1, 0.985),
            ("flatcoat", "2 bits", 0.95, 0.975),
            ("fast-plaid", "default", 30, 0.985),
            ("fast-plaid", "n_full_scores 1024, n_ivf_probe 4", 8.8, 0.99),
        ]
    ]
    broken = SearchRow(
        engine="xtr-warp-rs", settings="automatic", passages=1000, tokens=10_000, error="ValueError"
    )
    draw_search([*rows, broken], tmp_path / "search.png", caption="a machine")
    quality, growth = drawn[0].axes
    for axes in (quality, growth):
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == 6
        assert all(one.count_overlaps(boxes) == 1 for one in boxes)
        assert all(one.x1 <= drawn[0].bbox.x1 for one in boxes)
    at = quality.transData.transform([(row.ms_per_query, row.quality["recall@10"]) for row in rows[6:]])
    assert not any(text.get_window_extent().contains(*place) for text in quality.texts for place in at)
    with pytest.raises(FlatcoatError, match="nothing to draw"):
        draw_search([broken], tmp_path / "nothing.png", caption="a machine")
