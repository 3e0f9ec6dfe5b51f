"""Sources of every kind become data sets of one shape."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from pydantic import ValidationError

from flatcoat import FlatcoatError
from flatcoat.indexing.reading.row import Row
from flatcoat.retrieval.data.dataset import load_source
from flatcoat.retrieval.data.examples import Example, ExampleColumns, examples, write_examples
from flatcoat.retrieval.data.source import Source

MINED = [
    {"query": "sky", "document": "blue", "negatives": ["green", "red", "grey"], "scores": [9.0, 1, 2, 3]},
    {"query": "grass", "document": "green", "negatives": ["blue", "red"], "scores": [8.0, 1, 2]},
    {"query": "snow", "document": "white", "negatives": ["", "red", "grey"], "scores": [7.0, 1, 2, 3]},
    {"query": "tar", "document": "black", "negatives": ["white"], "scores": [6.0, 1]},
    {"query": " ", "document": "nothing", "negatives": ["white", "red"], "scores": [5.0, 1, 2]},
]


def load(source: dict[str, Any], tmp_path: Path, seed: int = 42) -> Dataset:
    return load_source(Source(**source), tmp_path, folder=tmp_path / "arrow", seed=seed)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_get_one_number_of_negatives(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_rows(tmp_path / f"mined.{kind}", MINED)
    source = {kind: f"mined.{kind}", "negatives": "negatives", "scores": "scores", "ways": 3}
    with caplog.at_level(logging.WARNING):
        rows = load(source, tmp_path)
    assert rows.column_names == ["query", "document", "negative_1", "negative_2", "scores"]
    assert [list(row.values()) for row in rows] == [
        ["sky", "blue", "green", "red", [9, 1, 2]],
        ["grass", "green", "blue", "red", [8, 1, 2]],
        # its empty negative is left out together with the score
        ["snow", "white", "red", "grey", [7, 2, 3]],
    ]
    assert "skipped 1 rows with an empty query" in caplog.text
    assert "skipped 1 rows with fewer than 3 documents" in caplog.text


def test_a_data_set_is_memory_mapped_and_outlives_the_file_that_it_was_read_from(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "pairs.jsonl", MINED)
    rows = load({"jsonl": "pairs.jsonl"}, tmp_path)
    path.unlink()
    (file,) = rows.cache_files
    assert Path(file["filename"]).is_relative_to(tmp_path / "arrow")
    assert rows.column_names == ["query", "document"]
    assert rows["query"][:] == ["sky", "grass", "snow", "tar"]


def test_triplets_have_columns_of_their_own(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.jsonl", [{"anchor": "a", "positive": "b", "n1": "c", "n2": "d"}])
    columns = {"query": "anchor", "document": "positive", "negatives": ("n1", "n2")}
    (row,) = load({"jsonl": "t.jsonl", **columns}, tmp_path)
    assert row == {"query": "a", "document": "b", "negative_1": "c", "negative_2": "d"}


def test_a_list_of_scored_documents_is_cut_and_led_by_the_best(tmp_path: Path) -> None:
    rows = [{"q": "sky", "d": ["grey", "blue", "red", "cobalt"], "s": "[0.2, 0.9, 0.1, 0.95]"}]
    write_rows(tmp_path / "n.jsonl", rows)
    (row,) = load({"jsonl": "n.jsonl", "query": "q", "document": "d", "scores": "s", "ways": 3}, tmp_path)
    assert list(row.values())[:4] == ["sky", "blue", "grey", "red"]
    assert row["scores"] == pytest.approx([0.9, 0.2, 0.1])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "a", "scores": [1]}, r"p\.jsonl:2: no column 'document'; columns there: query"),
        (MINED[0] | {"query": 3}, r""":2: 'query' must be text: \{"query": 3"""),
        (MINED[0] | {"negatives": "c"}, ":2: 'negatives' must be a list of texts"),
        (MINED[0] | {"negatives": [3]}, ":2: 'negatives' must be a list of texts"),
        (MINED[0] | {"scores": ["x"]}, "must be a list of numbers"),
        (MINED[0] | {"scores": None}, "must be a list of numbers"),
        (MINED[0] | {"scores": [1, 2]}, "holds 2 scores of 4 documents"),
    ],
)
def test_a_bad_row_is_shown(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    write_rows(tmp_path / "p.jsonl", [MINED[0], row])
    with pytest.raises(FlatcoatError, match=message):
        load({"jsonl": "p.jsonl", "negatives": "negatives", "scores": "scores"}, tmp_path)


def test_lists_of_documents_need_scores(tmp_path: Path) -> None:
    write_rows(tmp_path / "p.jsonl", [{"query": "a", "document": ["b", "c"]}])
    with pytest.raises(FlatcoatError, match=":1: 'document' is a list, so that its scores must be named"):
        load({"jsonl": "p.jsonl"}, tmp_path)


def test_nothing_to_train_on(tmp_path: Path) -> None:
    write_rows(tmp_path / "p.jsonl", [{"query": "", "document": "b"}])
    with pytest.raises(FlatcoatError, match="has no pair of a query and a document"):
        load({"jsonl": "p.jsonl"}, tmp_path)
    (tmp_path / "p.parquet").write_text("no parquet")
    with pytest.raises(FlatcoatError, match=r"p\.parquet cannot be read"):
        load({"parquet": "p.parquet"}, tmp_path)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """Copies of two data sets below a root, laid out as on the hub."""
    subsets: dict[str, dict[str, list[dict[str, Any]]]] = {
        "org/triplets": {
            "triplet-hard": [{"query": f"q{n}", "positive": f"p{n}", "negative": f"n{n}"} for n in range(30)]
        },
        "org/ways": {
            "train": [
                {"query_id": 1, "document_ids": ["11", "12", "10"], "scores": [0.5, 0.9, 0.1]},
                {"query_id": 2, "document_ids": ["10", "11", "12"], "scores": [0.3, 0.2, 0.1]},
            ],
            "queries": [{"query_id": n, "text": f"query {n}"} for n in (2, 1)],
            "documents": [{"document_id": str(n), "text": f"document {n}"} for n in (10, 11, 12)],
        },
        "org/judged": {
            "qrels": [{"query-id": "a", "corpus-id": "x", "score": 1}],
            "queries": [{"_id": "a", "text": "why?"}],
            "corpus": [
                {"_id": "x", "title": "Because", "text": "so"},
                {"_id": "y", "title": "", "text": "no"},
            ],
        },
    }
    for name, parts in subsets.items():
        configs = []
        for subset, rows in parts.items():
            (tmp_path / name / subset).mkdir(parents=True)
            # a split may be called after what it holds
            split = subset if subset == "corpus" else "train"
            Dataset.from_list(rows).to_parquet(tmp_path / name / subset / f"{split}-0.parquet")
            files = f"    - {{split: {split}, path: {subset}/{split}-*}}\n"
            configs.append(f"  - config_name: {subset}\n    data_files:\n{files}")
        (tmp_path / name / "README.md").write_text(f"---\nconfigs:\n{''.join(configs)}---\n")
    return tmp_path


TRIPLETS = {
    "hub": "org/triplets",
    "subset": "triplet-hard",
    "document": "positive",
    "negatives": ("negative",),
}
WAYS = {
    "hub": "org/ways",
    "subset": "train",
    "queries": "queries",
    "documents": "documents",
    "query": "query_id",
    "document": "document_ids",
    "scores": "scores",
}


def test_triplets_of_the_hub(hub: Path) -> None:
    rows = load(TRIPLETS, hub)
    assert rows.column_names == ["query", "document", "negative_1"]
    assert [tuple(row.values()) for row in rows] == [(f"q{n}", f"p{n}", f"n{n}") for n in range(30)]


def test_streaming_takes_rows_as_they_come(hub: Path) -> None:
    streamed = load(TRIPLETS | {"streaming": True, "max_pairs": 7}, hub)
    assert streamed["query"][:] == [f"q{n}" for n in range(7)]
    drawn = load(TRIPLETS | {"max_pairs": 7}, hub)
    assert len(drawn) == 7
    assert drawn["query"][:] != streamed["query"][:]


def test_rows_of_ids_are_joined_with_their_texts(hub: Path) -> None:
    rows = load(WAYS, hub)
    assert [list(row.values())[:-1] for row in rows] == [
        ["query 1", "document 12", "document 11", "document 10"],
        ["query 2", "document 10", "document 11", "document 12"],
    ]
    assert rows["scores"][0] == pytest.approx([0.9, 0.5, 0.1])
    judged = {"hub": "org/judged", "subset": "qrels", "queries": "queries", "documents": "corpus"}
    (row,) = load(judged | {"query": "query-id", "document": "corpus-id"}, hub)
    assert row == {"query": "why?", "document": "Because so"}


def test_an_id_without_a_text_is_shown(hub: Path) -> None:
    rows = [{"query_id": 1, "document_ids": ["11", "99"], "scores": [1.0, 0.0]}]
    Dataset.from_list(rows).to_parquet(hub / "org/ways/train/train-1.parquet")
    message = r"org/ways \(train, train\), row 3: 'document_ids' names '99', which has no text"
    with pytest.raises(FlatcoatError, match=message):
        load(WAYS, hub)


def test_a_data_set_that_cannot_be_reached_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError) as caught:
        load({"hub": "nobody/nothing", "subset": "a"}, tmp_path)
    assert str(caught.value).endswith(f"copy its files to {tmp_path / 'nobody/nothing'}")
    assert "\n" not in str(caught.value)


def test_a_subset_or_split_that_is_not_there(hub: Path) -> None:
    for change in ({"subset": "soft"}, {"split": "dev"}):
        with pytest.raises(FlatcoatError, match=r"org/triplets .* cannot be read: .*(soft|dev)"):
            load(TRIPLETS | change, hub)


def test_sampling_is_that_of_shuffled_lists(tmp_path: Path) -> None:
    import random

    rows = [{"query": f"q{n}", "document": f"d{n % 10}"} for n in range(60)]
    write_rows(tmp_path / "p.jsonl", rows)
    source = {"jsonl": "p.jsonl", "per_document": 2, "max_pairs": 15}
    shuffled, kept, seen = list(rows), [], Counter[str]()
    random.Random(7).shuffle(shuffled)
    for row in shuffled:
        seen[row["document"]] += 1
        if seen[row["document"]] <= 2:
            kept.append(row)
    assert list(load(source, tmp_path, seed=7)) == kept[:15]
    assert list(load(source | {"repeat": 3}, tmp_path, seed=7)) == kept[:15] * 3
    assert list(load(source, tmp_path, seed=8)) != kept[:15]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "name exactly one of beir, jsonl, parquet, hub, docstrings"),
        ({"hub": "a", "jsonl": "b"}, "name exactly one of"),
        ({"jsonl": "a", "subset": "b"}, "subset does not go with jsonl"),
        ({"beir": "a", "negatives": "b"}, "negatives does not go with beir"),
        ({"hub": "a", "queries": "b"}, "name both or neither"),
        ({"jsonl": "a", "weight": 0}, "greater than 0"),
    ],
)
def test_keys_that_do_not_go_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Source(**values)


@pytest.mark.parametrize("name", ["mined.jsonl", "mined.parquet"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    rows = [Example(f"q{n}", f"d\n{n}", (f"ä{n}", "\u2028")) for n in range(3)]
    write_examples(iter(rows), tmp_path / "out" / name)
    source = {Path(name).suffix[1:]: f"out/{name}", "negatives": "negatives"}
    read = load(source, tmp_path)
    # the second negative is white space, which is no text
    assert [tuple(row.values()) for row in read] == [(f"q{n}", f"d\n{n}", f"ä{n}") for n in range(3)]


def test_a_file_that_was_cut_off_does_not_appear(tmp_path: Path) -> None:
    def broken() -> Iterator[Example]:
        yield Example("a", "b")
        raise KeyboardInterrupt

    for name in ("mined.jsonl", "mined.parquet"):
        with pytest.raises(KeyboardInterrupt):
            write_examples(broken(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_examples_stream() -> None:
    def rows() -> Iterator[Row]:
        yield Row("first", {"query": "a", "document": "b"})
        raise AssertionError("read ahead")

    assert next(examples(rows(), ExampleColumns(), source="test")) == Example("a", "b")


def test_the_place_of_every_row_is_kept_for_who_asks(tmp_path: Path, hub: Path) -> None:
    write_rows(tmp_path / "p.jsonl", [{"query": "", "document": "x"}, *MINED])
    source = Source(jsonl=Path("p.jsonl"))
    placed = load_source(source, tmp_path, folder=tmp_path / "arrow", places=True)
    assert placed["place"][:] == [f"{tmp_path}/p.jsonl:{line}" for line in (2, 3, 4, 5)]
    assert placed.remove_columns("place")[:] == load_source(source, tmp_path, folder=tmp_path / "arrow")[:]
    drawn = load_source(Source(**TRIPLETS, max_pairs=3), hub, folder=tmp_path / "arrow", places=True)
    for row in drawn:
        assert row["place"] == f"org/triplets (triplet-hard, train), row {int(row['query'][1:]) + 1}"


def test_the_place_of_a_pair_of_a_beir_folder_is_its_judgement(tmp_path: Path) -> None:
    write_beir(tmp_path / "pets", "q1\td1\t1\n")
    (row,) = load_source(Source(beir=Path("pets")), tmp_path, folder=tmp_path / "arrow", places=True)
    assert row == {"query": "why?", "document": "so", "place": f"{tmp_path}/pets/qrels/train.tsv:2"}


def write_beir(folder: Path, judgements: str, identifier: str = "q1") -> None:
    (folder / "qrels").mkdir(parents=True)
    write_rows(folder / "corpus.jsonl", [{"_id": "d1", "text": "so"}])
    write_rows(folder / "queries.jsonl", [{"_id": identifier, "text": "why?"}])
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\n" + judgements)


@pytest.mark.parametrize(
    ("kind", "scores"),
    [
        ("jsonl", [9.0, 1, 2, float("nan")]),
        ("jsonl", [9.0, 1, 2, float("-inf")]),
        ("jsonl", [9.0, 1, 2, 1e39]),  # no float32
        ("jsonl", [9.0, 1, 2, 10**400]),
        ("jsonl", ["9", "1", "2", "nan"]),
        ("jsonl", "[9, 1, 2, 1e999]"),
        ("parquet", [9.0, 1, 2, float("nan")]),
        ("parquet", [9.0, 1, 2, float("inf")]),
    ],
    ids=range(8),
)
def test_scores_that_are_no_finite_numbers_are_refused(tmp_path: Path, kind: str, scores: Any) -> None:
    good = [MINED[0]] if kind == "parquet" else MINED[:1] * 2
    write_rows(tmp_path / f"p.{kind}", [*good, MINED[0] | {"scores": scores}])
    place = "p.jsonl:3" if kind == "jsonl" else "p.parquet, row 2"
    with pytest.raises(FlatcoatError, match=f"{place}: 'scores' must be a list of finite numbers") as caught:
        load({kind: f"p.{kind}", "negatives": "negatives", "scores": "scores"}, tmp_path)
    assert "\n" not in str(caught.value)


def test_scores_of_the_hub_must_be_finite_too(hub: Path) -> None:
    rows = [{"query_id": 1, "document_ids": ["11", "12"], "scores": [1.0, float("nan")]}]
    Dataset.from_list(rows).to_parquet(hub / "org/ways/train/train-1.parquet")
    message = r"org/ways \(train, train\), row 3: 'scores' must be a list of finite numbers"
    with pytest.raises(FlatcoatError, match=message):
        load(WAYS, hub)


@pytest.mark.parametrize("line", ['{"query": ' + "[" * 100_000, '{"query": 1' + "0" * 5_000 + "}"])
def test_a_row_that_no_parser_survives_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "p.jsonl").write_text(line + "\n")
    with pytest.raises(FlatcoatError, match=r"p\.jsonl:1: not JSON"):
        load({"jsonl": "p.jsonl"}, tmp_path)


def test_scores_nested_beyond_every_parser_are_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "p.jsonl", [MINED[0] | {"scores": "[" * 50_000}])
    with pytest.raises(FlatcoatError, match=r"p\.jsonl:1: 'scores' must be a list of numbers"):
        load({"jsonl": "p.jsonl", "negatives": "negatives", "scores": "scores"}, tmp_path)


def test_texts_have_one_unicode_form_and_no_half_surrogates(tmp_path: Path) -> None:
    row = {
        "query": "re\u0301sume\u0301",
        "document": "otter \ud83e",
        "negatives": ["\ud83e\udda6", "\udda6 x"],
    }
    write_rows(tmp_path / "p.jsonl", [row])
    (read,) = load({"jsonl": "p.jsonl", "negatives": "negatives"}, tmp_path)
    assert (read["query"], read["negative_1"]) == ("résumé", "\U0001f9a6")
    assert read["document"].startswith("otter \ufffd")
    for text in read.values():
        text.encode()


def test_ids_of_a_beir_folder_meet_in_either_unicode_form(tmp_path: Path) -> None:
    write_beir(tmp_path / "pets", "Zoe\u0308\td1\t1\n", "Zoë")
    (row,) = load({"beir": "pets"}, tmp_path)
    assert row["query"] == "why?"


def test_a_judgement_that_is_no_finite_number_is_named(tmp_path: Path) -> None:
    write_beir(tmp_path / "pets", "q1\td1\tnan\n")
    with pytest.raises(FlatcoatError, match=r"train\.tsv:2: the score 'nan' is not an integer"):
        load({"beir": "pets"}, tmp_path)


def test_a_positive_among_its_own_negatives_does_not_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"query": "sky", "document": "It is blue.", "negatives": ["green", "red"]},
        {"query": "tar", "document": "It is black.", "negatives": ["it is  black.", "white", "grey"]},
        {"query": "snow", "document": "white", "negatives": ["white", "grey"]},
    ]
    write_rows(tmp_path / "p.jsonl", rows)
    with caplog.at_level(logging.WARNING):
        read = load({"jsonl": "p.jsonl", "negatives": "negatives"}, tmp_path)
    assert [(row["query"], row["negative_1"], row["negative_2"]) for row in read] == [
        ("sky", "green", "red"),
        ("tar", "white", "grey"),
    ]
    assert f"left out 2 negatives that say what their row's document says, first at {tmp_path}/p.jsonl:2" in (
        caplog.text
    )
    assert "skipped 1 rows with fewer than 3 documents" in caplog.text


def test_a_scored_list_that_repeats_its_best_document_loses_that_score_too(tmp_path: Path) -> None:
    rows = [{"q": "sky", "d": ["grey", "blue", "Blue", "red"], "s": [0.2, 0.9, 0.8, 0.1]}]
    write_rows(tmp_path / "n.jsonl", rows)
    (row,) = load({"jsonl": "n.jsonl", "query": "q", "document": "d", "scores": "s"}, tmp_path)
    assert list(row.values())[:4] == ["sky", "blue", "grey", "red"]
    assert row["scores"] == pytest.approx([0.9, 0.2, 0.1])


def test_rows_whose_teacher_scores_are_all_equal_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_rows(tmp_path / "p.jsonl", [MINED[0], MINED[0] | {"scores": [1, 1, 1, 1]}])
    with caplog.at_level(logging.WARNING):
        load({"jsonl": "p.jsonl", "negatives": "negatives", "scores": "scores"}, tmp_path)
    assert f"the teacher scores all documents of 1 rows alike, first at {tmp_path}/p.jsonl:2" in caplog.text
