"""A recipe from its data to a checkpoint that flatcoat and plain PyLate load."""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from flatcoat import FlatcoatError, Recipe
from flatcoat.recipes.record import fingerprint
from flatcoat.recipes.run import read_sources, run
from flatcoat.retrieval.encoders.colbert import ColbertEncoder
from flatcoat.retrieval.encoders.dense import DenseEncoder
from flatcoat.retrieval.encoders.load import load_encoder

MakeFolder = Callable[..., Path]

WORDS = ["cat", "dog", "sky", "bread", "bridge", "river", "light", "steel"]
SAFETENSORS = ["model.safetensors", "1_Dense/model.safetensors"]
# PyLate has no vector where a document has [UNK], which "w" and "?" are; sentence-transformers has.
ASKED = "what of the bridge?" if find_spec("pylate") else "bread of the bridge"
TEXTS = ["cat", "", ASKED, "The steel bridge of the river, and the light of the sky. " * 9]


def in_its_library(folder: Path) -> tuple[Any, Any]:
    """Vectors of queries and of documents by PyLate, or without it by sentence-transformers 6."""
    if find_spec("pylate"):
        from pylate.models import ColBERT

        plain = ColBERT(str(folder), device="cpu")
        return tuple(plain.encode(TEXTS, is_query=is_query) for is_query in (True, False))
    import sentence_transformers

    model = sentence_transformers.MultiVectorEncoder(str(folder), device="cpu")
    return model.encode_query(TEXTS, convert_to_numpy=True), model.encode_document(
        TEXTS, convert_to_numpy=True
    )


def assert_its_library_agrees(folder: Path) -> None:
    encoder = ColbertEncoder.load(folder, device="cpu")
    encodings = (encoder.encode_queries, encoder.encode_documents)
    for encode, expected in zip(encodings, in_its_library(folder), strict=True):
        for came, wanted in zip(encode(TEXTS), expected, strict=True):
            assert came.shape == wanted.shape
            assert came.dtype == wanted.dtype == np.float32
            assert np.abs(came - wanted).max() <= 1e-5


def test_a_recipe_becomes_a_checkpoint(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    output, steps = tmp_path / "runs" / "tiny", []
    log = run(recipe(), output, on_step=lambda step, total, loss: steps.append((step, total)))
    assert log.steps == 3
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert [path.name for path in output.parent.iterdir()] == ["tiny"]
    assert_its_library_agrees(output)
    contract = ColbertEncoder.load(output, device="cpu").contract
    assert (contract.width, contract.query_length, contract.document_length) == (16, 12, 40)


def test_the_folder_says_how_it_was_made(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    run(recipe(description="A test."), tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text()).keys() >= {"name", "kind", "data"}
    again = Recipe.load(tmp_path / "out" / "recipe.yaml")
    assert again == recipe(description="A test.").model_copy(update={"data_root": Path()})
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (record["steps"], record["pairs"]) == (3, {"pets": 24})
    assert len(record["sha256"]["pets"]) == 64
    assert {"flatcoat", "torch", "transformers"} <= record["versions"].keys()
    card = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "PyLate"
    assert "modernbert" in front["tags"]
    assert "A test." in card
    assert "| pets | 24 |" in card


def test_half_precision_weights_are_half_the_size_and_load_as_float32(
    recipe: Callable[..., Recipe], modernbert_folder: Path, tmp_path: Path
) -> None:
    sizes = {}
    for dtype in ("fp32", "fp16"):
        start = {"scratch": None, "base": str(modernbert_folder)}
        run(recipe(**start, training={"weights_dtype": dtype}), tmp_path / dtype)
        sizes[dtype] = sum(
            tensor.numel() * tensor.element_size()
            for file in (tmp_path / dtype / name for name in SAFETENSORS)
            for tensor in load_file(file).values()
        )
    assert sizes["fp16"] * 2 == sizes["fp32"]
    assert_its_library_agrees(tmp_path / "fp16")
    full, half = (ColbertEncoder.load(tmp_path / dtype, device="cpu") for dtype in ("fp32", "fp16"))
    assert {weight.dtype for weight in half.model.parameters()} == {next(full.model.parameters()).dtype}
    difference = half.encode_documents(TEXTS).values_TD - full.encode_documents(TEXTS).values_TD
    assert 0 < np.abs(difference).max() < 0.01


def test_the_same_recipe_gives_the_same_weights(
    recipe: Callable[..., Recipe], modernbert_folder: Path, tmp_path: Path
) -> None:
    start = {"scratch": None, "base": str(modernbert_folder)}
    for name in ("one", "two"):
        run(recipe(**start), tmp_path / name)
    run(recipe(**start, training={"seed": 1}), tmp_path / "other")
    one, two, other = (
        ColbertEncoder.load(tmp_path / name, device="cpu").contract.weights
        for name in ("one", "two", "other")
    )
    assert one == two
    assert one != other


def test_no_steps_save_the_start_whose_projection_keeps_the_most(
    recipe: Callable[..., Recipe], modernbert_folder: Path, tmp_path: Path
) -> None:
    start = {"scratch": None, "base": str(modernbert_folder), "training": {"max_steps": 0}}
    kept: dict[int, np.ndarray] = {}
    for width in (32, 16, 4):
        log = run(recipe(**start, encoder={"width": width, "projection": "principal"}), tmp_path / str(width))
        assert (log.steps, log.losses) == (0, [])
        kept[width] = load_file(tmp_path / str(width) / "1_Dense" / "model.safetensors")[
            "linear.weight"
        ].numpy()
        # Orthonormal rows, the directions that matter most first.
        assert np.abs(kept[width] @ kept[width].T - np.eye(width)).max() < 1e-5
        assert np.abs(np.abs(kept[32][:width] @ kept[width].T) - np.eye(width)).max() < 1e-2


@pytest.mark.parametrize("kind", ["colbert", "dense"])
def test_identifiers_are_split_where_the_recipe_says_so(
    recipe: Callable[..., Recipe], bert_folder: Path, tmp_path: Path, kind: str
) -> None:
    for split in (True, False):
        start = {"scratch": None, "base": str(bert_folder), "kind": kind}
        run(recipe(**start, encoder={"split_identifiers": split}), tmp_path / str(split))
        if kind == "colbert":
            assert_its_library_agrees(tmp_path / str(split))
        assert load_encoder(tmp_path / str(split), device="cpu").contract.split_identifiers == split


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_dense_recipe(recipe: Callable[..., Recipe], tmp_path: Path, pooling: str) -> None:
    encoder = {"pooling": pooling, "query_prefix": "q: ", "document_prefix": "d: "}
    run(recipe(kind="dense", encoder=encoder), tmp_path / "out")
    ours = DenseEncoder.load(tmp_path / "out", device="cpu")
    plain = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert np.abs(ours.encode_queries(TEXTS) - plain.encode_query(TEXTS)).max() <= 1e-5
    assert np.abs(ours.encode_documents(TEXTS) - plain.encode_document(TEXTS)).max() <= 1e-5
    assert (ours.contract.query_prefix, ours.contract.pooling) == ("q: ", pooling)
    assert ours.contract.document_length == 40


def test_a_checkpoint_may_be_the_start(
    recipe: Callable[..., Recipe], modernbert_folder: Path, bert_folder: Path, tmp_path: Path
) -> None:
    for name, base in (("modernbert", modernbert_folder), ("bert", bert_folder)):
        run(recipe(scratch=None, base=str(base)), tmp_path / name)
        assert_its_library_agrees(tmp_path / name)


def test_a_base_that_is_not_there(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    for kind in ("colbert", "dense"):
        with pytest.raises(FlatcoatError, match="cannot be read from the Hugging Face hub"):
            run(recipe(kind=kind, scratch=None, base="nobody/no-such-model"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_taken(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for name in ("file", "folder"):
        with pytest.raises(FlatcoatError, match="exists and is not empty: name another --output"):
            run(recipe(), tmp_path / name)
    (tmp_path / "empty").mkdir()
    run(recipe(training={"max_steps": 1}), tmp_path / "empty")
    assert (tmp_path / "empty" / "README.md").exists()


def test_an_interrupted_run_asks_to_be_resumed(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    def interrupt(step: int, steps: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(recipe(), tmp_path / "out", on_step=interrupt)
    assert not (tmp_path / "out" / "training.json").exists()
    with pytest.raises(FlatcoatError, match="holds an unfinished run: --resume it, or name another --output"):
        run(recipe(), tmp_path / "out")
    with pytest.raises(FlatcoatError, match=r"the recipe changed since the run in .* was started \(training"):
        run(recipe(training={"seed": 1}), tmp_path / "out", resume=True)
    assert run(recipe(), tmp_path / "out", resume=True).steps == 3
    with pytest.raises(FlatcoatError, match="exists and is not empty"):
        run(recipe(), tmp_path / "out", resume=True)


def test_missing_data_is_found_before_anything_is_made(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    for source, message in (
        ({"beir": "plants"}, "plants"),
        ({"beir": "pets", "split": "best"}, "has no split 'best': choose one of dev, train"),
        ({"jsonl": "pairs.jsonl"}, "no column 'document'; columns there: q, d"),
        ({"beir": "pets", "max_pairs": 7}, "pets has 7 pairs, fewer than one batch of 8"),
    ):
        with pytest.raises(FlatcoatError, match=message):
            run(recipe(data=[source]), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_lacks_scores_is_refused(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match="distillation learns from negatives"):
        run(recipe(training={"loss": "distillation"}), tmp_path / "out")


def test_sources_are_sampled_as_the_recipe_says(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    rows = {"jsonl": "pairs.jsonl", "query": "q", "document": "d", "repeat": 3}
    sampled = recipe(data=[{"beir": "pets", "per_document": 2}, rows, rows])
    sources = read_sources(sampled, tmp_path)
    assert [len(source) for source in sources.values()] == [16, 24, 24]
    _, second, third = sources
    assert third == f"{second}-2"
    again = read_sources(sampled, tmp_path)
    assert [fingerprint(source) for source in again.values()] == list(map(fingerprint, sources.values()))
    other = read_sources(recipe(data=[{"beir": "pets", "per_document": 2}], training={"seed": 1}), tmp_path)
    assert fingerprint(other["pets"]) != fingerprint(sources["pets"])


def test_the_best_checkpoint_on_the_dev_sets_is_kept(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = iter([0.2, 0.9, 0.3, 0.1, 0.0])
    seen: dict[float, str] = {}

    def scores(recipe: Recipe, datasets: Any) -> Any:
        assert [dataset.split for dataset in datasets] == ["dev"]

        def evaluate(model: Any) -> dict[str, float]:
            value = next(scripted)
            seen[value] = ColbertEncoder(model, "now").contract.weights
            return {"pets": value}

        return evaluate

    monkeypatch.setattr("flatcoat.recipes.run.dev_scores", scores)
    training = {"max_steps": 10, "evaluate_every": 2, "patience": 2, "log_every": 1}
    log = run(recipe(dev=["pets"], training=training), tmp_path / "out")
    assert (log.steps, log.best_step) == (8, 4)
    assert [(step, found["pets"]) for step, found in log.dev] == [(2, 0.2), (4, 0.9), (6, 0.3), (8, 0.1)]
    assert ColbertEncoder.load(tmp_path / "out", device="cpu").contract.weights == seen[0.9] != seen[0.1]
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_library_is_silent(
    recipe: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(recipe(training={"max_steps": 1}), tmp_path / "out")
    assert capsys.readouterr().out == ""


def test_the_finished_model_is_measured_for_its_card(
    recipe: Callable[..., Recipe], data_root: Path, tmp_path: Path
) -> None:
    (data_root / "pets" / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"{word}0\t{word}\t1\n" for word in WORDS)
    )
    run(recipe(evaluate=["pets"]), tmp_path / "out")
    rows = json.loads((tmp_path / "out" / "training.json").read_text())["scores"]
    assert [(row["dataset"], row["split"], row["system"]) for row in rows] == [
        ("pets", "test", "tiny"),
        ("pets", "test", "tiny search (hybrid)"),
        ("pets", "test", "BM25"),
    ]
    assert all(0 < row["ndcg@10"] <= 1 for row in rows)
    assert (
        f"| pets (test) | tiny | {100 * rows[0]['ndcg@10']:.1f} |"
        in (tmp_path / "out" / "README.md").read_text()
    )
    with pytest.raises(FlatcoatError, match="nowhere"):
        run(recipe(evaluate=["nowhere"]), tmp_path / "second")


def test_dev_sets_of_one_name_are_all_scored(
    recipe: Callable[..., Recipe], data_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(data_root / "pets", tmp_path / "other" / "pets")
    training = {"max_steps": 2, "evaluate_every": 2}
    log = run(recipe(dev=["pets", tmp_path / "other" / "pets"], training=training), tmp_path / "out")
    (_, scores) = log.dev[-1]
    assert set(scores) == {"pets", str(tmp_path / "other" / "pets"), "mean"}


def test_weights_beyond_float16_are_not_saved_as_such(
    recipe: Callable[..., Recipe], modernbert_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "large"
    shutil.copytree(modernbert_folder, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("Wo.weight"))
    weights[name][0, 0] = 1e6
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    made = recipe(scratch=None, base=str(folder), training={"weights_dtype": "fp16", "max_steps": 1})
    with pytest.raises(FlatcoatError, match="beyond float16: name weights_dtype: fp32"):
        run(made, tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_run_that_diverges_leaves_no_result(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    made = recipe(training={"learning_rate": 1e20, "warmup": 0})
    with pytest.raises(
        FlatcoatError, match=r"^step 2: the loss is nan in the rows .*pets/qrels/train\.tsv:\d+"
    ):
        run(made, tmp_path / "out")
    assert not (tmp_path / "out" / "training.json").exists()
    assert not (tmp_path / "out" / "model.safetensors").exists()
    assert list((tmp_path / "out" / "checkpoints").iterdir()) == []


def test_what_cannot_be_learnt_leaves_no_folder(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match="a batch of one row without negatives"):
        run(recipe(training={"batch_size": 1}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_where_the_data_lie_does_not_change_their_fingerprint(
    recipe: Callable[..., Recipe], data_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(data_root, tmp_path / "copy")
    here, there = (
        read_sources(recipe(data_root=root), tmp_path / "rows") for root in (data_root, tmp_path / "copy")
    )
    assert here["pets"]["place"][:] != there["pets"]["place"][:]
    assert fingerprint(here["pets"]) == fingerprint(there["pets"])
