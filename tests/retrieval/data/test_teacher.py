"""Teacher scores are those of the cross-encoder pair by pair, and a run that is cut off goes on."""

import json
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import CrossEncoder

from flatcoat import FlatcoatError
from flatcoat.retrieval.data import teacher as teaching
from flatcoat.retrieval.data.teacher import score_file
from flatcoat.retrieval.rerank import load_cross_encoder

WORDS = ["the", "sky", "is", "blue", "because", "air", "scatters", "short", "waves", "of", "light"]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Path:
    import torch

    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("cross-encoder")
    CrossEncoder(str(bert_folder), num_labels=1, max_length=64, device="cpu").save(str(folder))
    return folder


@pytest.fixture
def mined(tmp_path: Path) -> Path:
    rows = [
        {
            "query": " ".join(WORDS[: number + 1]),
            "document": " ".join(WORDS[number:]),
            "negatives": [" ".join(WORDS * size) for size in range(1, 1 + number % 3)],
        }
        for number in range(len(WORDS))
    ]
    path = tmp_path / "mined.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scores_are_those_of_single_pairs(
    cross_encoder: Path, mined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(teaching, "_CHARACTERS", 200)
    teacher, told = load_cross_encoder(str(cross_encoder)), []
    output = tmp_path / "scored.jsonl"
    assert score_file(mined, output, teacher=teacher, on_progress=told.append) == len(WORDS)
    assert told == [4, 8, 11]
    for row, scored in zip(read(mined), read(output), strict=True):
        documents = [row["document"], *row["negatives"]]
        expected = [float(teacher.predict((row["query"], text))) for text in documents]
        assert scored.pop("scores") == pytest.approx(expected, abs=1e-5)
        assert scored == row
    assert len({score for row in read(output) for score in row["scores"]}) > 10


def test_a_run_that_was_cut_off_goes_on(
    cross_encoder: Path, mined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching, "_ROWS_AT_ONCE", 3)
    teacher, whole, cut = (
        load_cross_encoder(str(cross_encoder)),
        tmp_path / "whole.jsonl",
        tmp_path / "cut.jsonl",
    )
    score_file(mined, whole, teacher=teacher)
    text = whole.read_bytes()
    # in the middle of the fifth line
    at = sum(map(len, text.splitlines(keepends=True)[:4])) + 10
    cut.write_bytes(text[:at])
    assert score_file(mined, cut, teacher=teacher) == len(WORDS) - 4
    assert [row["query"] for row in read(cut)] == [row["query"] for row in read(whole)]
    for one, other in zip(read(cut), read(whole), strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)
    assert score_file(mined, cut, teacher=teacher) == 0


def test_an_output_of_other_rows_is_left_alone(cross_encoder: Path, mined: Path, tmp_path: Path) -> None:
    output = tmp_path / "scored.jsonl"
    output.write_text(json.dumps({"query": "other", "document": "rows", "scores": [1.0]}) + "\n")
    before = output.read_text()
    with pytest.raises(FlatcoatError, match=r"scored\.jsonl:1 is not the same row as in the input"):
        score_file(mined, output, teacher=load_cross_encoder(str(cross_encoder)))
    assert output.read_text() == before


def test_what_is_no_teacher(bert_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match="cannot be read from the Hugging Face hub"):
        load_cross_encoder("nobody/no-such-teacher")
    CrossEncoder(str(bert_folder), num_labels=3, device="cpu").save(str(tmp_path / "three"))
    with pytest.raises(FlatcoatError, match="gives 3 scores per pair: a model with one score is needed"):
        load_cross_encoder(str(tmp_path / "three"))


def test_a_teacher_that_gives_no_finite_score_ends_at_its_first_row(
    cross_encoder: Path, mined: Path, tmp_path: Path
) -> None:
    teacher = load_cross_encoder(str(cross_encoder))
    teacher.model.classifier.bias.data.fill_(float("nan"))
    with pytest.raises(FlatcoatError, match=r"mined\.jsonl:1: the teacher's score of the document is nan"):
        score_file(mined, tmp_path / "scored.jsonl", teacher=teacher)
    assert (tmp_path / "scored.jsonl").read_text() == ""


def test_rows_are_written_as_they_are_however_odd(cross_encoder: Path, tmp_path: Path) -> None:
    odd = {"query": "sky \ud83e", "document": "blue", "note": "\udda6 \\\ud83e", "weight": float("nan")}
    (tmp_path / "odd.jsonl").write_text(json.dumps(odd) + "\n" + json.dumps(odd | {"query": "air"}) + "\n")
    teacher, output = load_cross_encoder(str(cross_encoder)), tmp_path / "scored.jsonl"
    assert score_file(tmp_path / "odd.jsonl", output, teacher=teacher) == 2
    (first, _) = read(output)
    assert (first["query"], first["note"]) == (odd["query"], odd["note"])
    output.write_bytes(output.read_bytes()[:-3])
    assert score_file(tmp_path / "odd.jsonl", output, teacher=teacher) == 1
