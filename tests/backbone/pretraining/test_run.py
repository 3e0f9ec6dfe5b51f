"""Whole runs of a tiny model: phases, resuming after a kill, averaging, what transformers loads."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM, BertConfig, BertModel, PreTrainedTokenizerFast

from flatcoat.backbone.fill_mask import FillMask
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.pretraining.phases import PhaseResult
from flatcoat.backbone.pretraining.run import pretrain
from flatcoat.backbone.pretraining.settings import PretrainingSettings
from flatcoat.backbone.pretraining.watch import RunLog, read_log
from flatcoat.errors import ConflictError, DataError, FlatcoatError, NotFoundError

MakeSettings = Callable[..., PretrainingSettings]

RUN = """
import sys
from pathlib import Path
from flatcoat.backbone.pretraining.run import pretrain
from flatcoat.backbone.pretraining.settings import PretrainingSettings
settings = PretrainingSettings.model_validate_json(Path(sys.argv[1]).read_text())
pretrain(settings, Path(sys.argv[2]), resume=Path(sys.argv[2]).exists())
"""


class Stopped(Exception):
    pass


def stop_at(step: int, kind: str) -> Callable[[dict[str, Any]], None]:
    def stop(figures: dict[str, Any]) -> None:
        if (figures["step"], figures["kind"]) == (step, kind):
            raise Stopped

    return stop


def figures(folder: Path) -> list[dict[str, Any]]:
    """The figures of a run that do not depend on the clock."""
    by_clock = {"tokens_per_second", "mfu"}
    return [{name: line[name] for name in line.keys() - by_clock} for line in read_log(folder)]


def same_figures(one: Path, two: Path) -> bool:
    """Equal but for the last bits of sums, which depend on where in memory their terms lie."""
    return figures(one) == [
        {name: pytest.approx(value, rel=1e-6) if name != "kind" and name != "phase" else value
         for name, value in line.items()}
        for line in figures(two)
    ]  # fmt: skip


def same_weights(one: Path, two: Path) -> bool:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    return first.keys() == second.keys() and all(
        torch.allclose(weights, second[name], rtol=0, atol=1e-5) for name, weights in first.items()
    )


def test_a_run_leaves_a_checkpoint_per_phase(make_settings: MakeSettings, tmp_path: Path) -> None:
    results = pretrain(make_settings(), tmp_path / "run")
    assert [result.name for result in results] == ["stable", "extended", "annealed"]
    assert all(result.packing > 0.97 for result in results)
    log = read_log(tmp_path / "run")
    training = [line for line in log if line["kind"] == "training"]
    assert [line["step"] for line in training] == list(range(1, sum(r.steps for r in results) + 1))
    assert training[-1]["loss"] < training[0]["loss"]
    assert training[-1]["learning_rate"] == pytest.approx(0.001 * 0.003)
    assert results[-1].held_back["perplexity"] > 1
    thetas = [
        AutoModel.from_pretrained(tmp_path / "run" / "phases" / name).config.rope_parameters
        for name in ("stable", "extended")
    ]
    assert [theta["full_attention"]["rope_theta"] for theta in thetas] == [10_000, 160_000]
    whole = AutoModelForMaskedLM.from_pretrained(tmp_path / "run")
    assert whole.config.max_position_embeddings == 64
    assert whole.config.attention_dropout == 0
    fill = FillMask.from_pretrained(tmp_path / "run")
    assert len(fill("The dog [MASK] the cat.", top_k=3)[0]) == 3
    record = json.loads((tmp_path / "run" / "pretraining.json").read_text())
    assert [PhaseResult(**phase) for phase in record["phases"]] == results
    assert (tmp_path / "run" / "curves.png").stat().st_size > 10_000
    with pytest.raises(ConflictError, match="name another --output"):
        pretrain(make_settings(), tmp_path / "run", resume=True)


@pytest.mark.parametrize(("stop", "kind"), [(5, "training"), (8, "training"), (6, "held back")])
def test_a_run_that_stopped_goes_on_as_if_it_had_not(
    make_settings: MakeSettings, tmp_path: Path, stop: int, kind: str
) -> None:
    # Dropout draws random numbers, and a mean of states needs those before the stop.
    model = make_settings().model
    assert model is not None
    dropped = model.model_copy(update={"attention_dropout": 0.1})
    phases = make_settings().phases
    phases = (phases[0], phases[2].model_copy(update={"average": 2}))
    settings = make_settings(model=dropped, phases=phases)
    pretrain(settings, tmp_path / "whole")
    with pytest.raises(Stopped):
        pretrain(settings, tmp_path / "cut", on_step=stop_at(stop, kind))
    with pytest.raises(ConflictError, match="--resume it"):
        pretrain(settings, tmp_path / "cut")
    with pytest.raises(ConflictError, match=r"the recipe changed .*seed"):
        pretrain(settings.model_copy(update={"seed": 1}), tmp_path / "cut", resume=True)
    pretrain(settings, tmp_path / "cut", resume=True)
    assert same_figures(tmp_path / "cut", tmp_path / "whole")
    assert same_weights(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_as_if_it_had_not(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings()
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    pretrain(settings, tmp_path / "whole")
    command = [sys.executable, "-c", RUN, str(tmp_path / "settings.json"), str(tmp_path / "cut")]
    log = tmp_path / "cut" / "log.jsonl"
    for lines in (3, 9, 14):
        process = subprocess.Popen(command, env=os.environ)
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            if log.exists() and log.read_text().count("\n") >= lines:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, env=os.environ)
    assert same_figures(tmp_path / "cut", tmp_path / "whole")
    assert same_weights(tmp_path / "cut", tmp_path / "whole")


def test_a_phase_may_start_from_an_earlier_one_and_average_its_states(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    phases = make_settings().phases
    again = phases[1].model_copy(update={"name": "again", "start": "stable"})
    pretrain(make_settings(phases=(phases[0], phases[1], again)), tmp_path / "branched")
    stable = load_file(tmp_path / "branched" / "phases" / "stable" / "model.safetensors")
    extended, branched = (
        load_file(tmp_path / "branched" / "phases" / name / "model.safetensors")
        for name in ("extended", "again")
    )
    # The same steps on other text: as far from where they both began, and not where the phase between ended.
    name = "model.layers.0.attn.Wqkv.weight"
    moved = [(weights[name] - stable[name]).norm() for weights in (extended, branched)]
    assert moved[0] / moved[1] == pytest.approx(1, abs=0.3)
    averaging = phases[0].model_copy(update={"average": 2})
    watching = make_settings().watching.model_copy(update={"save_every": 3})
    pretrain(make_settings(phases=(averaging,), watching=watching), tmp_path / "mean")
    folder = tmp_path / "mean" / "phases" / "stable"
    (last,) = folder.glob("step-*")
    assert not same_weights(folder, tmp_path / "branched" / "phases" / "stable")
    final = torch.load(last / "rank-0.pt", weights_only=True)["model"]["model." + name]
    assert torch.equal(final, stable[name])  # Averaging changes what is saved, not what goes on.


def test_a_checkpoint_goes_on_with_text_of_one_s_own(make_settings: MakeSettings, tmp_path: Path) -> None:
    phases = make_settings().phases[:1]
    pretrain(make_settings(phases=phases), tmp_path / "base")
    adapted = make_settings(model=None, tokenizer=None, base=str(tmp_path / "base"), phases=phases)
    results = pretrain(adapted, tmp_path / "adapted")
    before = read_log(tmp_path / "base")
    assert read_log(tmp_path / "adapted")[0]["loss"] < before[0]["loss"] - 0.2
    assert results[0].held_back["masked_loss"] < before[-1]["masked_loss"] + 0.05
    names = ("tokenizer.json", "tokenizer_config.json")
    assert all((tmp_path / "base" / n).read_bytes() == (tmp_path / "adapted" / n).read_bytes() for n in names)


@pytest.mark.parametrize("match", ["logits", "tokens", "sentences"])
def test_a_model_learns_from_a_teacher(make_settings: MakeSettings, tmp_path: Path, match: str) -> None:
    phases = make_settings().phases[:1]
    pretrain(make_settings(phases=phases), tmp_path / "teacher")
    teacher = str(tmp_path / "teacher")
    objective = {"kind": "distillation", "teacher": teacher, "match": match}
    values = {"objective": objective, "phases": phases}
    with pytest.raises(ConflictError, match=r"another tokenizer: set tokenizer\.base"):
        pretrain(make_settings(**values, tokenizer={"vocab_size": 448}), tmp_path / "other")
    pretrain(make_settings(**values, tokenizer={"base": teacher}), tmp_path / "student")
    log = [line for line in read_log(tmp_path / "student") if line["kind"] == "training"]
    assert log[-1]["divergence"] < log[0]["divergence"]
    AutoModelForMaskedLM.from_pretrained(tmp_path / "student")


def test_a_teacher_of_another_family_has_positions_for_every_phase(
    make_settings: MakeSettings, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    teacher = str(tmp_path / "bert")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes, max_position_embeddings=32)).save_pretrained(
        teacher
    )
    tokenizer.save_pretrained(teacher)
    values = {
        "objective": {"kind": "distillation", "teacher": teacher, "match": "sentences"},
        "tokenizer": {"base": teacher},
    }
    phases = make_settings().phases
    with pytest.raises(DataError, match="bert has 32 positions: shorten the phases"):
        pretrain(make_settings(**values, phases=phases[:2]), tmp_path / "long")
    pretrain(make_settings(**values, phases=phases[:1]), tmp_path / "student")
    log = [line for line in read_log(tmp_path / "student") if line["kind"] == "training"]
    assert log[-1]["divergence"] < log[0]["divergence"]


def test_replaced_tokens_train_an_encoder(make_settings: MakeSettings, tmp_path: Path) -> None:
    objective = {"kind": "replaced-tokens", "generator": 0.5}
    (result,) = pretrain(
        make_settings(objective=objective, phases=make_settings().phases[:1]), tmp_path / "run"
    )
    log = [line for line in read_log(tmp_path / "run") if line["kind"] == "training"]
    assert log[-1]["detection_loss"] < log[0]["detection_loss"]
    assert 0 < result.held_back["replaced"] < 0.2
    assert ModernBert.from_pretrained(tmp_path / "run").config.hidden_size == 16
    AutoModel.from_pretrained(tmp_path / "run")


def test_tensorboard_shows_each_step_of_a_resumed_run_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # Saved after step 2, cut off after step 3, resumed.
    for saved, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        log = RunLog(tmp_path, saved, log_to=["tensorboard"])
        for step in steps:
            log.write("training", step, {"loss": float(saved)})
        log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("training/loss")]
    assert shown == [(1, 0), (2, 0), (3, 2), (4, 2)]
    assert [(line["step"], line["loss"]) for line in read_log(tmp_path)] == shown


def test_errors_come_before_training_or_name_the_rate(make_settings: MakeSettings, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file matches none"):
        pretrain(make_settings(data=[{"files": ["none.txt"]}]), tmp_path / "one")
    wild = make_settings().phases[0].model_copy(update={"learning_rate": 1e30})
    with pytest.raises(FlatcoatError, match=r"the loss is .* lower the learning rate .* of phase stable"):
        pretrain(make_settings(phases=(wild,)), tmp_path / "two")
