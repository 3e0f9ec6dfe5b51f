"""The encoding benchmark on a model small enough for a test."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from typer.testing import CliRunner

from flatcoat import FlatcoatError
from flatcoat.__main__ import app
from flatcoat.backbone.config import ModernBertConfig
from flatcoat.eval.bench import OURS
from flatcoat.eval.bench.encode import (
    SETS,
    SpeedRow,
    bench_encoding,
    best_against_default,
    corpus_documents,
    document_count,
    documents,
    known_precisions,
    mean_cosine,
)
from flatcoat.eval.bench.encode_batches import in_batches, padded_batches
from flatcoat.eval.bench.encode_peers import (
    BOUND,
    DEFAULT,
    REFERENCE,
    inference,
    random_encoder,
    reference_encode,
    sentence_transformer,
    training,
)
from flatcoat.eval.bench.encode_timing import fits_in_memory, largest_batch, time_encoders
from flatcoat.eval.bench.plot_encoding import draw_encoding

CONFIG = ModernBertConfig(
    vocab_size=120,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=2,
    pad_token_id=7,
    bos_token_id=1,
    eos_token_id=2,
    cls_token_id=1,
    sep_token_id=2,
)

ROW = SpeedRow(
    set="",
    implementation=OURS,
    precision="fp32",
    tokens_per_second=300,
    ratio_to_ours=1,
    cosine=1.0,
    documents=4,
    task="inference",
)


@pytest.fixture
def shape(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_hf()))
    return str(tmp_path)


def test_document_sets_follow_the_protocol() -> None:
    assert {len(text) for text in documents("fixed-512", 5, vocab_size=120)} == {512}
    lengths = [len(text) for text in documents("variable-256", 4000, vocab_size=120)]
    assert min(lengths) >= 32
    assert max(lengths) <= 512
    assert abs(sum(lengths) / 4000 - 256) < 5
    assert documents("variable-256", 9, vocab_size=120) == documents("variable-256", 9, vocab_size=120)
    assert document_count("fixed-512", 1) == 8192
    assert document_count("fixed-8192", 1) == 512
    with pytest.raises(FlatcoatError, match="no document set short"):
        documents("short", 1, vocab_size=120)


def test_every_implementation_encodes_alike() -> None:
    texts = documents("variable-256", 7, vocab_size=CONFIG.vocab_size)
    source = random_encoder(CONFIG, "cpu")
    expected_ND = reference_encode(source, "cpu")(texts)
    found = inference(source, ["fp32", "bf16"], device="cpu")
    names = [(one.precision, one.name) for one in found]
    peers = [OURS, REFERENCE, "transformers eager"]
    assert names == [
        *(("fp32", name) for name in (*peers, DEFAULT, BOUND)),
        *(("bf16", name) for name in (*peers, BOUND)),
    ]
    for one in found:
        pooled_ND = one.encode(texts)
        assert pooled_ND.shape == expected_ND.shape
        if one.precision == "fp32" and one.name != BOUND:
            assert (pooled_ND - expected_ND).abs().max() <= 1e-5
        elif one.name != BOUND:
            assert mean_cosine(pooled_ND, expected_ND) > 0.995


def test_int8_stays_near_float32() -> None:
    texts = documents("variable-256", 7, vocab_size=CONFIG.vocab_size)
    source = random_encoder(CONFIG, "cpu")
    expected_ND = reference_encode(source, "cpu")(texts)
    found = inference(source, ["int8"], device="cpu")
    assert [one.name for one in found] == [OURS, f"{REFERENCE} dynamic"]
    for one in found:
        pooled_ND = one.encode(texts)
        assert mean_cosine(pooled_ND, expected_ND) > 0.995
        assert (pooled_ND - expected_ND).abs().max() > 1e-6
    assert torch.equal(reference_encode(source, "cpu")(texts), expected_ND), "quantising changed the source"


@pytest.mark.parametrize("family", ["nomic_bert", "new", "mosaic"])
def test_a_model_that_transformers_lacks_is_measured_alone(family: str, tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    if family == "nomic_bert":
        sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_inner": 48}
    mosaic = {"model_type": "bert", "alibi_starting_size": 512}
    named = mosaic if family == "mosaic" else {"model_type": family}
    settings = named | sizes | {"vocab_size": 120, "prenorm": False, "position_embedding_type": "rope"}
    if family == "mosaic":
        del settings["position_embedding_type"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    rows = bench_encoding(str(tmp_path), ["variable-64"], precisions=["fp32", "int8"], scale=1e-6, passes=1)
    assert [(row.implementation, row.precision) for row in rows] == [
        (OURS, "fp32"),
        (BOUND, "fp32"),
        (OURS, "int8"),
    ]
    assert {row.no_peer.split(",")[0].rpartition(" ")[0] for row in rows} == {"transformers has no"}
    assert rows[0].cosine == pytest.approx(1)


def test_sentence_transformers_reads_the_written_ids_exactly() -> None:
    model = sentence_transformer(random_encoder(CONFIG, "cpu"), "cpu")
    texts = [[5, 7, 17, 70, 77, 7, 7, 107], *documents("fixed-8192", 1, vocab_size=CONFIG.vocab_size)]
    written = [" ".join(map(str, text)) for text in texts]
    for text, single in zip(texts, written, strict=True):
        assert model.tokenize([single])["input_ids"].tolist() == [text]
    both = model.tokenize(written)
    assert both["attention_mask"].sum(dim=1).tolist() == [8, 8192]
    assert set(both["input_ids"][0, 8:].tolist()) == {CONFIG.pad_token_id}
    assert next(model.parameters()).dtype == torch.float32


def test_padded_batches_stay_within_the_budget() -> None:
    lengths = [10, 90, 30, 30, 31, 200, 5]
    found = list(padded_batches(lengths, 100))
    assert sorted(index for batch in found for index in batch) == list(range(7))
    assert [lengths[batch[0]] for batch in found] == [200, 90, 31, 10]
    assert all(len(batch) * max(lengths[index] for index in batch) <= 100 for batch in found[1:])
    assert list(padded_batches([], 100)) == []


def test_vectors_come_back_in_order() -> None:
    encode = in_batches(
        lambda texts: torch.tensor([[float(len(text))] for text in texts]), lambda lengths: [[2, 0], [1]]
    )
    assert encode([[1], [1, 2], [1, 2, 3]]).flatten().tolist() == [1, 2, 3]


@pytest.mark.parametrize("capacity", [0, 1, 2, 3, 31, 64, 65, 127])
def test_the_largest_batch_is_found_exactly_when_small(capacity: int) -> None:
    assert largest_batch(lambda size: size <= capacity, 10_000) == capacity
    assert largest_batch(lambda size: size <= capacity, 50) == min(capacity, 50)


def test_the_largest_batch_is_found_closely_when_large() -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= 1604

    assert 1604 * 63 / 64 <= largest_batch(fits, 8192) <= 1604
    assert len(tried) < 20
    assert largest_batch(lambda size: True, 8192) == 8192


def test_a_batch_that_fails_does_not_fit() -> None:
    def forward(texts: list[list[int]]) -> torch.Tensor:
        if len(texts) > 5:
            raise torch.cuda.OutOfMemoryError("too much")
        return torch.zeros(len(texts), 1)

    assert largest_batch(fits_in_memory(forward, [[1], [2]]), 100) == 5


def test_encoders_take_turns_and_may_run_out_of_memory() -> None:
    calls: list[str] = []

    def short_of_memory(texts: list[list[int]]) -> torch.Tensor:
        calls.append("short")
        raise torch.cuda.OutOfMemoryError("too much")

    def encode(texts: list[list[int]]) -> torch.Tensor:
        calls.append("able")
        return torch.ones(len(texts), 1)

    found = time_encoders(
        {"able": encode, "short": short_of_memory, "again": encode}, [[5] * 9] * 2, passes=2
    )
    assert calls == ["able", "short", "able", "able", "able", "able", "able"]
    assert found["short"] == (0.0, None)
    assert found["able"].tokens_per_second > 0
    assert found["able"].vectors_ND is not None


def test_rows_hold_every_figure(shape: str) -> None:
    rows = bench_encoding(shape, SETS[:1], precisions=["fp32"], scale=0.0005, passes=1)
    assert rows[0].implementation == OURS
    assert rows[-1].implementation == BOUND
    for row in rows:
        assert row.tokens_per_second > 0
        assert row.ratio_to_ours == pytest.approx(row.tokens_per_second / rows[0].tokens_per_second)
        assert (row.cosine is None) == (row.implementation == BOUND)
        assert (row.documents, row.task, row.max_batch) == (4, "inference", None)
    assert rows[0].cosine == pytest.approx(1, abs=1e-6)


def test_a_corpus_is_read_by_the_tokenizer_of_the_model(modernbert_folder: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"_id": str(number), "text": "cats purr " * number}) for number in range(1, 41)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    model, corpus = str(modernbert_folder), str(tmp_path)
    rows = bench_encoding("base", [corpus], model=model, precisions=["fp32"], scale=0.0001, passes=1)
    assert {row.set for row in rows} == {corpus} and rows[0].cosine == pytest.approx(1, abs=1e-6)
    few = corpus_documents(tmp_path, model, tokens=420, longest=30)
    every = corpus_documents(tmp_path, model, tokens=10**6, longest=30)
    assert len(every) == 40 and max(map(len, every)) == 30
    assert few == every[:: len(every) // len(few)] and 200 < sum(map(len, few)) < 840
    with pytest.raises(FlatcoatError, match="is a corpus: name the --model"):
        bench_encoding("base", [corpus])


def test_what_cannot_be_measured_is_named(shape: str) -> None:
    with pytest.raises(FlatcoatError, match="no precision fp8"):
        bench_encoding(shape, SETS, precisions=["fp8"])
    with pytest.raises(FlatcoatError, match=r"no precision int8 for training on cpu: known are fp32, bf16$"):
        bench_encoding(shape, SETS, precisions=["int8"], train=True)
    with pytest.raises(FlatcoatError, match="no shape huge"):
        bench_encoding("huge", SETS, precisions=["fp32"])
    with pytest.raises(FlatcoatError, match="no document set short"):
        bench_encoding(shape, ["fixed-64", "short"], precisions=["fp32"])
    assert known_precisions("cpu") == ("fp32", "bf16", "int8")
    assert known_precisions("cuda") == ("fp32", "bf16")


def test_training_steps_leave_no_gradients_behind(shape: str) -> None:
    rows = bench_encoding(shape, ["variable-64"], precisions=["fp32"], scale=0.0001, passes=1, train=True)
    assert [(row.implementation, row.task) for row in rows] == [(OURS, "training"), (REFERENCE, "training")]
    assert all(row.cosine == pytest.approx(1, abs=1e-6) for row in rows)
    source = random_encoder(CONFIG, "cpu")
    for one in training(source, ["bf16"], device="cpu"):
        assert not one.encode(documents("fixed-64", 2, vocab_size=CONFIG.vocab_size)).requires_grad
    assert all(weight.grad is None for weight in source.parameters())


def test_ours_at_its_best_is_set_against_the_default() -> None:
    row = replace(ROW, set="fixed-64")
    rows = [
        row,
        replace(row, implementation=DEFAULT, tokens_per_second=100),
        replace(row, implementation=BOUND, tokens_per_second=9000, cosine=None),
        replace(row, precision="bf16", tokens_per_second=410, cosine=0.9951),
        replace(row, precision="int8", tokens_per_second=700, cosine=0.98),
        replace(row, set="fixed-128"),
    ]
    assert best_against_default(rows) == [("fixed-64", "bf16", 4.1)]
    assert best_against_default([row, replace(row, implementation=DEFAULT, tokens_per_second=0)]) == []


@pytest.mark.parametrize("kind", ["Bert", "MPNet"])
def test_any_checkpoint_is_measured_with_its_weights(kind: str, tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = getattr(transformers, f"{kind}Config")(vocab_size=300, max_position_embeddings=140, **sizes)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(tmp_path)
    rows = bench_encoding(
        model=str(tmp_path), shape="base", sets=["variable-64"], precisions=["fp32"], scale=0.0001, passes=1
    )
    names = [row.implementation for row in rows]
    assert names[0] == "flatcoat" and "sentence-transformers encode" in names
    assert ("transformers sdpa" in names) == (kind == "Bert")
    assert all(row.cosine is None or row.cosine > 0.99999 for row in rows)
    with pytest.raises(FlatcoatError, match="fixed-512 has documents of 512 tokens: the model reads 1"):
        bench_encoding(model=str(tmp_path), shape="base", sets=["fixed-512"])


def test_the_command_prints_json_and_draws(shape: str, tmp_path: Path) -> None:
    picture = tmp_path / "speed.png"
    arguments = ["bench", "encode", "--shape", shape, "--set", "fixed-64", "--precision", "fp32"]
    arguments += ["--scale", "0.0002", "--passes", "1"]
    done = CliRunner().invoke(app, [*arguments, "--json", "--plot", str(picture)])
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert set(values) == {"machine", "rows"}
    names = "set implementation precision tokens_per_second max_batch ratio_to_ours cosine documents task"
    assert all(set(row) == {*names.split(), "no_peer"} for row in values["rows"])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_a_table_and_our_best(shape: str) -> None:
    arguments = [
        "bench",
        "encode",
        "--shape",
        shape,
        "--set",
        "fixed-64",
        "--scale",
        "0.0001",
        "--passes",
        "1",
    ]
    done = CliRunner().invoke(app, [*arguments, "--precision", "fp32", "--precision", "bf16"])
    assert done.exit_code == 0, done.output
    assert "Loading weights" not in done.output
    assert DEFAULT.split()[0] in done.output
    assert "fixed-64: best of ours with cosine >= 0.995: " in done.output
    assert "x sentence-transformers' default encode" in done.output


@pytest.mark.parametrize("sets", [SETS[:1], SETS[:3], SETS])
def test_any_number_of_sets_is_drawn(sets: tuple[str, ...], tmp_path: Path) -> None:
    rows = [replace(ROW, set=name, precision=kind) for name in sets for kind in ("fp32", "bf16")]
    draw_encoding(rows, tmp_path / "speed.png", machine="a machine")
    assert (tmp_path / "speed.png").stat().st_size > 1000
