"""Fine-tuning on a toy task: learnt, repeated by seed, the same in parts, saved and summed up."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import typer
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

from flatcoat import FlatcoatError, SequenceClassifier
from flatcoat.backbone.packing import PackedBatch
from flatcoat.eval.glue import commands
from flatcoat.eval.glue.checkpoint import Checkpoint, Encoded, EncodedData
from flatcoat.eval.glue.data import Example, GlueData
from flatcoat.eval.glue.fine_tune import Settings, backward, fine_tune, predict
from flatcoat.eval.glue.results import TaskResult, average, majority, measure_task, settings_for, sweep_of
from flatcoat.eval.glue.tasks import TASKS, score

ANIMALS = ("The dog barks.", "A cat purrs.", "Birds swim in cold rivers.")
THINGS = ("The bridge is steel.", "Bread rises.", "A river of sugar and light.")
COLA = TASKS["cola"]
QUICK = Settings(2e-3, 1e-5, epochs=4, batch_size=8)


@pytest.fixture(scope="module")
def start(modernbert_folder) -> Checkpoint:
    return Checkpoint.open(modernbert_folder)


def pets(count: int = 48) -> list[Example]:
    """Animals are 1, things 0; two thirds are animals."""
    return [
        Example((f"{kind[number % 7 % 3]} {number % 5}",), float(kind is ANIMALS))
        for number in range(count)
        for kind in [ANIMALS if number % 3 else THINGS]
    ]


@pytest.fixture
def data() -> GlueData:
    return GlueData(COLA, pets(), {"in-domain": pets(21), "out-of-domain": pets(12)}, "toy")


def test_a_task_is_learnt_and_every_number_adds_up(start, data, tmp_path):
    steps: list[tuple[int, int]] = []
    result = measure_task(
        start,
        data,
        settings=[QUICK],
        seeds=[0, 1],
        folder=tmp_path,
        on_progress=lambda *step: steps.append(step),
    )
    assert steps == [(step, 48) for step in range(1, 49)]
    assert result.score > 0.9
    assert result.majority == {"matthews": 0, "accuracy": 22 / 33}
    assert [run.seed for run in result.runs] == [0, 1] and not result.sweep
    for run in result.runs:
        losses = [epoch.loss for epoch in run.epochs]
        assert len(losses) == 4 and losses[-1] < losses[0]
        scores = [epoch.measures["matthews"] for epoch in run.epochs]
        assert scores[run.best - 1] == max(scores)
        assert max(scores) not in scores[: run.best - 1]
    mean, spread = result.summary("matthews", last=True)
    last = [run.epochs[-1].measures["matthews"] for run in result.runs]
    assert mean == pytest.approx(np.mean(last)) and spread == pytest.approx(np.std(last, ddof=1))
    report = json.loads((tmp_path / "result.json").read_text())
    assert report == json.loads(json.dumps(result.to_json()))


def test_the_saved_checkpoint_has_the_score_of_the_best_epoch(start, data, tmp_path):
    # What is learnt is wrong on these sets, so that the best epoch is the first.
    flipped = {name: [Example(texts, 1 - label) for texts, label in part] for name, part in data.dev.items()}
    slow = replace(QUICK, learning_rate=4e-4)
    (run,) = measure_task(start, replace(data, dev=flipped), settings=[slow], seeds=[3], folder=tmp_path).runs
    best, last = run.epochs[run.best - 1], run.epochs[-1]
    assert last.measures["matthews"] < best.measures["matthews"] - 0.3
    saved = Checkpoint.open(tmp_path / "seed-3")
    model = SequenceClassifier.from_pretrained(saved.path)
    for name, encoded in saved.encode(replace(data, dev=flipped))[0].dev.items():
        assert score(predict(model, encoded.ids), encoded.labels, measures=COLA.measures) == best.sets[name]


def test_a_seed_repeats_and_another_differs(start, data):
    def losses(seed: int) -> list[float]:
        (run,) = measure_task(start, data, settings=[replace(QUICK, epochs=1)], seeds=[seed]).runs
        return [epoch.loss for epoch in run.epochs]

    assert losses(5) == losses(5) != losses(6)


def test_gradients_are_those_of_texts_alone_however_the_batch_is_parted(start, data):
    encoded, _ = start.encode(data)
    model = start.classifier(2, seed=0)
    batch = [*range(0, 48, 3), 1, 2]

    def gradients(max_tokens: int) -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        loss = backward(model, encoded.train, batch=batch, max_tokens=max_tokens)
        return loss, [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]

    def alone(index: int) -> torch.Tensor:
        label = torch.tensor([int(encoded.train.labels[index])])
        return cross_entropy(model(PackedBatch.from_sequences([encoded.train.ids[index]])), label)

    whole, parted = gradients(8192), gradients(20)
    model.zero_grad()
    loss = torch.stack([alone(index) for index in batch]).mean()
    loss.backward()
    slow = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert whole[0] == pytest.approx(loss.item(), abs=1e-5) == pytest.approx(parted[0], abs=1e-5)
    for found in (whole[1], parted[1]):
        torch.testing.assert_close(found, slow, atol=1e-5, rtol=1e-4)


def test_a_regression_is_learnt(start):
    ids, _ = start.encode(GlueData(COLA, pets(), {"dev": pets(21)}, "toy"))
    data = EncodedData(Encoded(ids.train.ids, ids.train.labels * 2 + 1), {"dev": ids.dev["dev"]})
    found = {}
    model = start.classifier(1, seed=0)
    fine_tune(
        model,
        data,
        settings=replace(QUICK, epochs=6),
        seed=0,
        after_epoch=lambda loss, values: found.update(values),
    )
    labels = ids.dev["dev"].labels
    assert np.abs(found["dev"] - (labels * 2 + 1)).mean() < 0.4
    assert score(found["dev"], labels, measures=["pearson"])["pearson"] > 0.9
    stsb = majority(TASKS["stsb"], data)
    assert stsb == {"spearman": 0, "pearson": 0}


def test_a_sweep_takes_its_best_for_the_other_seeds(start, data):
    grid = [replace(QUICK, learning_rate=rate, epochs=2) for rate in (1e-7, 2e-3)]
    result = measure_task(start, data, settings=grid, seeds=[0, 1])
    assert [run.settings for run in result.sweep] == grid
    assert [run.settings for run in result.runs] == [grid[1]] * 2
    assert result.runs[0] is result.sweep[1]


def test_settings_are_the_papers_by_size():
    assert settings_for(TASKS["rte"], "base") == Settings(5e-5, 1e-5, 3)
    assert settings_for(TASKS["rte"], "large") == Settings(5e-5, 8e-6, 3)
    assert settings_for(TASKS["rte"], "base", learning_rate=1e-3, epochs=7) == Settings(1e-3, 1e-5, 7)
    grid = sweep_of(settings_for(COLA, "base"))
    assert len(set(grid)) == 16 and settings_for(COLA, "base") in grid
    with pytest.raises(FlatcoatError, match=r"learning rate is -1: it must be above 0"):
        Settings(-1, 0, 1)


def test_long_texts_are_cut_and_counted(start):
    long = Example(("dog " * 3000,), 1.0)
    encoded, notices = start.encode(GlueData(COLA, [*pets(5), long], {"dev": [long]}, "toy"))
    assert len(encoded.train.ids[5]) == len(encoded.dev["dev"].ids[0]) == 1024
    assert notices == [
        "1 training examples are longer than the model's 1,024 tokens: cut",
        "1 of dev are longer than the model's 1,024 tokens: cut",
    ]


def test_pairs_are_parted_by_a_separator(start):
    data = GlueData(
        TASKS["rte"], [Example(("A dog.", "A cat."), 0)], {"dev": [Example(("A", "B"), 1)]}, "toy"
    )
    (ids,) = start.encode(data)[0].train.ids
    assert ids == start.tokenizer("A dog.", "A cat.")["input_ids"]
    assert ids.count(start.tokenizer.sep_token_id) == 2


def test_the_average_wants_all_eight():
    def result(name: str, value: float) -> TaskResult:
        class Scored(TaskResult):
            score = value

        return Scored(
            task=TASKS[name],
            start="",
            size="base",
            source="",
            train_examples=1,
            majority={},
            runs=[],
            sweep=[],
            notices=[],
        )

    results = [result(name, place / 10) for place, name in enumerate(TASKS)]
    assert average(results) == pytest.approx(0.35)
    assert average(results[1:]) is None


app = typer.Typer()
app.add_typer(commands.app)


@app.callback()
def keep_the_commands_name() -> None:
    """A lone command would lose its name."""


def invoke(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["glue", *map(str, arguments)])
    if isinstance(result.exception, FlatcoatError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folder(tmp_path):
    text = "".join(f"toy\t{label:.0f}\t\t{text}\n" for (text,), label in pets(24))
    (tmp_path / "CoLA").mkdir()
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / "CoLA" / name).write_text(text)
    return tmp_path


def test_the_command_prints_json_alone(modernbert_folder, folder, tmp_path):
    options = ["--task", "cola", "--data", folder, "--seeds", 2, "--epochs", 1, "--limit", 16, "--json"]
    report = json.loads(invoke(modernbert_folder, *options, "--output", tmp_path / "out").stdout)
    assert report["average"] is None and report["paper_average"] == {"base": 0.884, "large": 0.904}
    (task,) = report["tasks"]
    assert task["task"] == "cola" and task["train_examples"] == 16 and task["paper"]["base"] == 0.651
    assert [run["seed"] for run in task["runs"]] == [0, 1]
    assert json.loads((tmp_path / "out" / "cola" / "result.json").read_text()) == task
    assert (tmp_path / "out" / "cola" / "seed-1" / "model.safetensors").is_file()


def test_the_table_shows_ours_the_majority_and_the_paper(modernbert_folder, folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    options = ["--task", "cola", "--data", folder / "CoLA", "--seeds", 2, "--epochs", 1]
    output = invoke(modernbert_folder, *options).stdout
    (row,) = [line for line in output.splitlines() if line.strip().startswith("CoLA ")]
    assert row.split()[:2] == ["CoLA", "Matthews"] and row.split()[-3:] == ["0.0", "65.1", "71.4"]
    assert row.count("±") == 2
    assert "88.4" in output and "best epoch 1, 1 of 1" in output


def test_rte_starts_from_the_mnli_checkpoint_and_cola_does_not(start, folder, tmp_path):
    mnli = tmp_path / "mnli"
    start.classifier(3, seed=0).save_pretrained(mnli)
    start.tokenizer.save_pretrained(mnli)
    (folder / "RTE").mkdir()
    for name in ("train.tsv", "dev.tsv"):
        (folder / "RTE" / name).write_text(
            "sentence1\tsentence2\tlabel\nA dog.\tA pet.\t0\nA dog.\tA cat.\t1\n"
        )
    options = ["--task", "cola", "--task", "rte", "--data", folder, "--from", mnli, "--epochs", 1, "--json"]
    cola, rte = json.loads(invoke(start.path, *options).stdout)["tasks"]
    assert (cola["start"], rte["start"]) == (start.path, str(mnli))


def test_bad_usage_exits_with_2(modernbert_folder, folder):
    for options in (
        ["--task", "wnli"],
        ["--task", "cola", "--sweep", "--lr", 1e-4],
        ["--task", "cola", "--from", modernbert_folder],
    ):
        invoke(modernbert_folder, "--data", folder, *options, code=2)


def test_several_tasks_want_glues_folders(modernbert_folder, folder):
    with pytest.raises(FlatcoatError, match=r"RTE has no RTE data"):
        invoke(modernbert_folder, "--data", folder, "--task", "cola", "--task", "rte")


@pytest.mark.parametrize("learning_rate", [1e20, 3e38])
def test_fine_tuning_stops_at_the_first_loss_that_is_no_number(start, data, tmp_path, learning_rate):
    wild = replace(QUICK, learning_rate=learning_rate, weight_decay=0.0)
    with pytest.raises(
        FlatcoatError, match=r"^step 2: the loss is nan .*examples \d+, \d+, .*learning rate"
    ) as caught:
        measure_task(start, data, settings=[wild], seeds=[0], folder=tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_fine_tuning_stops_at_a_gradient_that_is_no_number(start, data):
    encoded, _ = start.encode(data)
    model = start.classifier(2, seed=0)
    model.classifier.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = model.classifier.weight.detach().clone()
    with pytest.raises(FlatcoatError, match=r"^step 1: the gradient norm is (nan|inf) .*examples \d+"):
        fine_tune(model, encoded, settings=QUICK, seed=0, after_epoch=lambda loss, found: None)
    assert torch.equal(model.classifier.weight, before)


def test_a_classifier_that_gives_no_numbers_is_not_scored(start, data):
    encoded, _ = start.encode(data)
    model = start.classifier(2, seed=0)
    model.classifier.bias.data.fill_(float("nan"))
    with pytest.raises(FlatcoatError, match="what the model answers is no finite number"):
        predict(model, encoded.train.ids)


@pytest.mark.parametrize("learning_rate", [0.0, float("nan"), float("inf")])
def test_a_learning_rate_is_a_number_above_0(learning_rate):
    with pytest.raises(FlatcoatError, match="it must be above 0"):
        replace(QUICK, learning_rate=learning_rate)
