"""Training runs: that they learn, repeat, mix sources and say what they did."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from flatcoat import FlatcoatError
from flatcoat.errors import UsageError
from flatcoat.retrieval.encoders.backbone import unpad_backbone
from flatcoat.retrieval.encoders.colbert import ColbertEncoder
from flatcoat.retrieval.encoders.colbert_model import ColbertModel
from flatcoat.retrieval.training.settings import LossName, TrainingSettings
from flatcoat.retrieval.training.train import step_count, train

MakeFolder = Callable[..., Path]


def pairs() -> dict[str, Dataset]:
    """Two sources of pairs, each with a word that says which belong together."""
    words = ["cat", "dog", "sky", "bread", "bridge", "river", "light", "steel"]
    return {
        source: Dataset.from_list(
            [
                {
                    "query": f"{word} {source} {number}",
                    "document": f"the {word} of {source}, {word} {number}",
                    "negative_1": f"{source} {number}",
                    "negative_2": f"not the {word} {number}",
                    "scores": [9.0, 1.0, 4.0],
                }
                for number, word in enumerate(words * 4)
            ]
        )
        for source in ("one", "two")
    }


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(**({"batch_size": 8, "learning_rate": 2e-3, "max_steps": 20} | changes))


def model_of(kind: str, make_colbert: MakeFolder, make_dense: MakeFolder) -> SentenceTransformer:
    if kind == "dense":
        model = SentenceTransformer(str(make_dense()), device="cpu")
    else:
        model = ColbertModel(str(make_colbert(query_length=12)), device="cpu")
    unpad_backbone(model)
    return model


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("colbert", {}),
        ("colbert", {"loss": "distillation", "mini_batch_tokens": 200}),
        ("colbert", {"loss": "margin-mse", "gradient_checkpointing": True}),
        ("dense", {"temperature": 0.05, "symmetric": True, "mini_batch_size": 4}),
        ("dense", {"temperature": 0.05, "matryoshka": (16,), "gradient_accumulation": 2}),
        ("dense", {"loss": "distillation", "temperature": 0.1}),
    ],
)
def test_training_lowers_the_loss(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    model = model_of(kind, make_colbert, make_dense)
    seen: list[tuple[int, int]] = []
    log = train(
        model,
        pairs(),
        settings=settings(log_every=5, **changes),
        folder=tmp_path,
        on_step=lambda step, steps, loss: seen.append((step, steps)),
    )
    assert log.steps == 20
    assert seen == [(step, 20) for step in range(1, 21)]
    assert [step for step, _ in log.losses] == [5, 10, 15, 20]
    assert log.losses[-1][1] < 0.9 * log.losses[0][1]
    assert log.seconds > 0
    assert log.cpu_seconds > 0


def test_steps_are_counted_as_epochs_of_whole_batches() -> None:
    sizes = {"one": 33, "two": 15}
    assert step_count(sizes, settings(max_steps=None, epochs=1.5)) == 8
    assert step_count(sizes, settings(max_steps=None, gradient_accumulation=2)) == 2
    assert step_count(sizes, settings(max_steps=7)) == 7


def test_a_run_is_repeatable(make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path) -> None:
    models = [model_of("colbert", make_colbert, make_dense) for _ in range(3)]
    logs = [
        train(model, pairs(), settings=settings(max_steps=3, seed=seed), folder=tmp_path / str(number))
        for number, (model, seed) in enumerate(zip(models, (1, 1, 2), strict=True))
    ]
    assert [log.steps for log in logs] == [3, 3, 3]
    first, second, other = (ColbertEncoder(model, "trained").contract.weights for model in models)
    assert first == second
    assert first != other


def test_bfloat16_keeps_the_weights_in_float32(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path
) -> None:
    model = model_of("colbert", make_colbert, make_dense)
    log = train(model, pairs(), settings=settings(precision="bf16", max_steps=10), folder=tmp_path)
    assert torch.tensor([loss for _, loss in log.losses]).isfinite().all()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def placed(file: str = "rows.jsonl") -> dict[str, Dataset]:
    """One source whose rows know where they were read."""
    rows = pairs()["one"]
    return {"one": rows.add_column("place", [f"{file}:{line + 1}" for line in range(len(rows))])}  # type: ignore[call-arg]


STOPPED = (
    r"^step {step}: the {what} is (nan|inf)\b.* in the rows rows\.jsonl:\d+, rows\.jsonl:\d+, .*learning_rate"
)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("dense", {}),
        ("dense", {"gradient_accumulation": 2, "loss": "margin-mse"}),
        ("dense", {"mini_batch_size": 4, "matryoshka": (16,)}),
        ("colbert", {"precision": "bf16", "loss": "distillation"}),
        ("colbert", {"mini_batch_tokens": 200, "gradient_checkpointing": True}),
    ],
)
def test_a_run_stops_at_the_first_loss_that_is_no_number(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    model = model_of(kind, make_colbert, make_dense)
    hyperparameters = settings(learning_rate=1e20, warmup=0.0, **changes)
    with pytest.raises(FlatcoatError, match=STOPPED.format(step=2, what="loss")) as caught:
        train(model, placed(), settings=hyperparameters, folder=tmp_path)
    assert "\n" not in str(caught.value)
    assert "no checkpoint was written before" in str(caught.value)
    assert list(tmp_path.glob("checkpoint-*")) == []


def test_the_checkpoint_before_is_named_and_holds_good_weights(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path
) -> None:
    model = model_of("dense", make_colbert, make_dense)

    def spoil(step: int, steps: int, loss: float) -> None:
        if step == 5:
            next(model.parameters()).data.fill_(float("nan"))

    with pytest.raises(FlatcoatError, match=STOPPED.format(step=6, what="loss")) as caught:
        train(model, placed(), settings=settings(save_every=2), folder=tmp_path, on_step=spoil)
    (last,) = re.findall(r"the last checkpoint is (\S+)$", str(caught.value))
    assert Path(last).name == "checkpoint-4"
    for weights in load_file(Path(last) / "model.safetensors").values():
        assert weights.isfinite().all()


@pytest.mark.parametrize("loss", ["margin-mse", "distillation"])
def test_of_a_batch_the_rows_that_are_odd_are_named(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path, loss: LossName
) -> None:
    rows = placed()["one"].to_list()
    for number in (3, 20):
        # finite, and beyond what a float32 can square or subtract
        rows[number]["scores"] = [3e38, -3e38, 0.0]
    model = model_of("dense", make_colbert, make_dense)
    hyperparameters = settings(loss=loss, batch_size=32)
    with pytest.raises(FlatcoatError, match="step 1: the loss is") as caught:
        train(model, {"one": Dataset.from_list(rows)}, settings=hyperparameters, folder=tmp_path)
    assert set(re.findall(r"rows\.jsonl:\d+", str(caught.value))) == {"rows.jsonl:4", "rows.jsonl:21"}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_run_stops_at_a_gradient_that_is_no_number(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path, accumulation: int
) -> None:
    model = model_of("dense", make_colbert, make_dense)
    weights = list(model.parameters())[-1]
    # What overflows in a backward alone.
    weights.register_hook(lambda gradient: gradient * float("inf"))
    before = weights.detach().clone()
    message = STOPPED.format(step=1, what="gradient norm")
    with pytest.raises(FlatcoatError, match=message) as caught:
        train(
            model,
            placed(),
            settings=settings(batch_size=4, gradient_accumulation=accumulation),
            folder=tmp_path,
        )
    assert str(caught.value).count("rows.jsonl:") == 4 * accumulation
    assert torch.equal(weights, before)


@pytest.mark.parametrize("save_every", [1, 500])
def test_weights_that_give_no_numbers_are_neither_a_checkpoint_nor_the_result(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path, save_every: int
) -> None:
    model = model_of("dense", make_colbert, make_dense)
    hyperparameters = settings(learning_rate=1e20, warmup=0.0, max_steps=1, save_every=save_every)
    with pytest.raises(FlatcoatError, match=r"^after step 1: the (loss|weights)"):
        train(model, placed(), settings=hyperparameters, folder=tmp_path)
    assert list(tmp_path.glob("checkpoint-*")) == []


def test_rows_of_unknown_places_are_numbered(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path
) -> None:
    model = model_of("dense", make_colbert, make_dense)
    next(model.parameters()).data.fill_(float("nan"))
    with pytest.raises(FlatcoatError, match=r"step 1: the loss is nan in the rows (one|two), row \d+, "):
        train(model, pairs(), settings=settings(), folder=tmp_path)


def test_dev_scores_that_are_no_numbers_end_a_run(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path
) -> None:
    model = model_of("dense", make_colbert, make_dense)
    with pytest.raises(FlatcoatError, match="the score on the dev set pets is nan"):
        train(
            model,
            pairs(),
            settings=settings(evaluate_every=2),
            folder=tmp_path,
            evaluate=lambda model: {"pets": float("nan")},
        )


@pytest.mark.parametrize(
    ("kind", "columns", "changes", "message"),
    [
        (
            "colbert",
            ["query", "document", "negative_1", "scores"],
            {"loss": "distillation"},
            "of two documents they are 0 and 1 whatever the model does: .*ways.* margin-mse",
        ),
        ("dense", ["query", "document", "scores"], {"loss": "distillation"}, "from negatives"),
        ("colbert", ["query", "document", "scores"], {"loss": "margin-mse"}, "from negatives"),
        ("dense", ["query", "document"], {"batch_size": 1}, "a batch of one row .*larger batch_size"),
        ("colbert", ["query", "document"], {"batch_size": 1, "gradient_accumulation": 8}, "a batch of one"),
        ("dense", ["query", "document"], {"matryoshka": (16, 65)}, "65 .* 64 wide"),
    ],
)
def test_what_cannot_be_learnt_is_refused_at_the_start(
    make_colbert: MakeFolder,
    make_dense: MakeFolder,
    tmp_path: Path,
    kind: str,
    columns: list[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    sources = {name: rows.select_columns(columns) for name, rows in pairs().items()}
    with pytest.raises(UsageError, match=message) as caught:
        train(
            model_of(kind, make_colbert, make_dense),
            sources,
            settings=settings(**changes),
            folder=tmp_path,
        )
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_two_documents_of_a_dense_distillation_are_said_to_lose_the_scores(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns = ["query", "document", "negative_1", "scores"]
    rows = pairs()["one"].map(lambda row: {"scores": row["scores"][:2]}).select_columns(columns)
    model = model_of("dense", make_colbert, make_dense)
    distilling = settings(loss="distillation", temperature=0.1, max_steps=1)
    train(model, {"one": rows}, settings=distilling, folder=tmp_path)
    assert "one has two documents in a row, whose scores become 1 and 0: margin-mse" in caplog.text


def test_one_row_with_negatives_is_something_to_learn_from(
    make_colbert: MakeFolder, make_dense: MakeFolder, tmp_path: Path
) -> None:
    model = model_of("dense", make_colbert, make_dense)
    assert train(model, pairs(), settings=settings(batch_size=1, max_steps=2), folder=tmp_path).steps == 2
