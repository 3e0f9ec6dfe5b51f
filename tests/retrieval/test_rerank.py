import json
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from flatcoat import DataError, FlatcoatError, UsageError
from flatcoat.retrieval import rerank
from flatcoat.retrieval.encoders.cross_encoder import PackedCrossEncoder
from flatcoat.retrieval.encoders.fast_tokenizer import FastTokenizer
from flatcoat.retrieval.encoders.how_it_runs import how_it_runs
from flatcoat.retrieval.encoders.pair_tokenizer import PairTokenizer
from flatcoat.retrieval.rerank import (
    CrossEncoderReranker,
    EncoderReranker,
    load_cross_encoder,
    load_reranker,
    maxsim,
)

QUERIES = ["why do cats purr", "what crosses the river"]
PAIRS = np.array([[1, 4], [0, 0], [1, 0], [0, 7], [0, 4]])


@pytest.fixture
def make_cross_encoder(bert_folder, tokenizer, tmp_path):
    def make(labels: int):
        import torch
        from transformers import BertConfig, BertForSequenceClassification

        torch.manual_seed(5)
        config = BertConfig.from_pretrained(bert_folder, num_labels=labels)
        BertForSequenceClassification(config).save_pretrained(tmp_path)
        tokenizer.save_pretrained(str(tmp_path))
        return tmp_path

    return make


def test_a_cross_encoder_scores_pairs_as_sentence_transformers_does(make_cross_encoder, texts):
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    folder = make_cross_encoder(labels=1)
    reranker = load_reranker(folder)
    scores_P = reranker.scorer(QUERIES)(texts, PAIRS)
    plain = CrossEncoder(str(folder))
    expected = plain.predict([(QUERIES[q], texts[d]) for q, d in PAIRS], activation_fn=Identity())
    assert scores_P == pytest.approx(expected, abs=1e-5)
    assert len(set(scores_P.tolist())) == len(PAIRS)
    assert reranker.describe()["kind"] == "cross-encoder" and len(reranker.describe()["weights"]) == 64


@pytest.mark.parametrize(
    "kind", ["Bert", "Roberta", "MPNet", "DistilBert", "Electra", "Albert", "ModernBert", "DebertaV2"]
)
def test_cross_encoders_of_every_family_run_packed(kind, tokenizer, texts, tmp_path):
    import torch
    import transformers
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    if kind == "DistilBert":
        small = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48}
    settings = {"vocab_size": len(tokenizer), "num_labels": 1, "initializer_range": 0.2}
    special = dict.fromkeys(("pad_token_id", "cls_token_id", "sep_token_id"), 1)
    config = getattr(transformers, f"{kind}Config")(**small, **settings, **special)
    torch.manual_seed(6)
    getattr(transformers, f"{kind}ForSequenceClassification")(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(str(tmp_path))
    reranker = load_reranker(tmp_path, max_length=64)
    assert isinstance(reranker, PackedCrossEncoder) == (kind != "DebertaV2")
    assert how_it_runs(str(tmp_path)).loaded_by == (
        "sentence-transformers" if kind == "DebertaV2" else "flatcoat"
    )
    by_library = CrossEncoderReranker(load_cross_encoder(tmp_path, max_length=64), str(tmp_path))
    assert hasattr(by_library.model.model.base_model, "packed") == (kind != "DebertaV2")
    plain = CrossEncoder(str(tmp_path), max_length=64)
    names = [name for name, _ in plain.model.named_parameters()]
    assert [name for name, _ in by_library.model.model.named_parameters()] == names
    pairs = [(QUERIES[q], texts[d]) for q, d in PAIRS]
    expected = plain.predict(pairs, activation_fn=Identity())
    for each in (reranker, by_library):
        assert each.scorer(QUERIES)(texts, PAIRS) == pytest.approx(expected, abs=1e-5)
    assert reranker.describe() == by_library.describe()


@pytest.mark.parametrize("max_length", [8, 21, 64])
@pytest.mark.parametrize("types", [True, False])
def test_pairs_are_laid_and_cut_as_by_transformers(tokenizer, texts, max_length, types, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(str(tmp_path))
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * types
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"model_input_names": names}))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    ours = PairTokenizer(FastTokenizer(tmp_path / "tokenizer.json", settings))
    several = [*texts, "", " ", " ".join(texts), "a\tb" * 400]
    tokens = ours.tokens(several)
    for first, second in product(range(len(several)), repeat=2):
        pair = ours.pair(tokens[first], tokens[second], max_length)
        expected = theirs([(several[first], several[second])], truncation=True, max_length=max_length)
        assert [pair.ids] == expected["input_ids"]
        assert [pair.types] == expected.get("token_type_ids", [[0] * len(pair.ids)])
    with pytest.raises(UsageError, match="2 tokens per pair: at least"):
        ours.pair([5], [6], 2)


def test_a_cross_encoder_starts_without_transformers(make_cross_encoder):
    folder = make_cross_encoder(labels=1)
    code = (
        "import sys; import numpy as np; from flatcoat.retrieval.rerank import load_reranker\n"
        f"print(load_reranker({str(folder)!r}).scorer(['a'])(['b'], np.array([[0, 0]])).shape)\n"
        "assert not {'transformers', 'sentence_transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "(1,)\n"), done.stderr


@pytest.mark.parametrize(("precision", "error"), [("fp32", 0), ("bf16", 0.1), ("int8", 0.15)])
def test_a_cross_encoder_in_a_precision(make_cross_encoder, texts, precision, error):
    folder = make_cross_encoder(labels=1)
    expected = load_reranker(folder).scorer(QUERIES)(texts, PAIRS)
    reranker = load_reranker(folder, precision, device="cpu")
    scores_P = reranker.scorer(QUERIES)(texts, PAIRS)
    assert scores_P.dtype == np.float32
    assert np.abs(scores_P - expected).max() <= error * np.ptp(expected)
    assert np.array_equal(scores_P, expected) == (precision == "fp32")
    assert reranker.describe() == load_reranker(folder).describe() | {"precision": precision}
    with pytest.raises(FlatcoatError, match="no precision"):
        load_reranker(folder, "fp8")


def test_a_classifier_of_several_labels_is_refused(make_cross_encoder):
    with pytest.raises(DataError, match="gives 3 scores per pair"):
        load_reranker(make_cross_encoder(labels=3))


def test_no_model_is_a_flatcoat_error(tmp_path):
    with pytest.raises(FlatcoatError, match="cannot be loaded"):
        load_reranker(tmp_path)


@pytest.mark.parametrize("kind", ["colbert", "dense"])
@pytest.mark.parametrize("at_once", [1, 5, 100])
def test_an_encoder_scores_by_its_vectors(make_colbert, make_dense, texts, kind, at_once, monkeypatch):
    monkeypatch.setattr(rerank, "_BATCH", at_once)
    reranker = load_reranker(make_colbert() if kind == "colbert" else make_dense())
    assert isinstance(reranker, EncoderReranker)
    queries, documents = reranker.encoder.encode_queries(QUERIES), reranker.encoder.encode_documents(texts)
    expected = [maxsim_slowly(np.atleast_2d(queries[q]), np.atleast_2d(documents[d])) for q, d in PAIRS]
    assert reranker.scorer(QUERIES)(texts, PAIRS) == pytest.approx(expected, abs=1e-4)
    assert "model" not in reranker.describe() and reranker.describe()["kind"] == kind


def maxsim_slowly(query_UD, document_TD) -> float:
    return sum(max(float(q @ d) for d in document_TD) for q in query_UD) if len(document_TD) else 0.0


def test_nothing_never_meets():
    assert maxsim(np.zeros((0, 3)), np.ones((2, 3))) == maxsim(np.ones((2, 3)), np.zeros((0, 3))) == 0.0
