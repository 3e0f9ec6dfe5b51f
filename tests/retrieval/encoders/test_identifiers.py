"""Identifiers in camel case: cut where code is meant, left whole in prose, by every library."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, BertTokenizer

from flatcoat import Document, FlatcoatError, Retriever
from flatcoat.indexing.vectors import TokenVectors
from flatcoat.retrieval.encoders.checkpoint_files import read_json
from flatcoat.retrieval.encoders.encoder import Encoder
from flatcoat.retrieval.encoders.fast_tokenizer import FastTokenizer
from flatcoat.retrieval.encoders.identifiers import are_split, splitting
from flatcoat.retrieval.encoders.load import SHIPPED_MODEL, load_encoder

WORDS = "parse http response server get all url xml request read mrna pcbs iphone mcdonald ebay snake case"
CUT = {
    "parseHttpResponse": "parse http response",
    "HTTPServer": "http server",
    "XMLHttpRequest readURL": "xml http request read url",
    "getAll_snakeCase": "get all _ snake case",
}
WHOLE = ["mRNA", "PCBs", "iPhone", "McDonald", "eBay", "parse http", "PARSE", "snake_case"]


class Earlier:
    """An encoder as earlier releases had it."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.contract = replace(encoder.contract, split_identifiers=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


@pytest.fixture
def bert(tmp_path: Path) -> BertTokenizer:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "_", *WORDS.split()]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    return BertTokenizer(vocab=str(tmp_path / "vocab.txt"))


def test_words_of_code_are_cut_and_names_of_prose_are_not(bert: BertTokenizer) -> None:
    whole = {text: bert.tokenize(text) for text in WHOLE}
    assert bert.tokenize("parseHttpResponse") == ["[UNK]"] and not are_split(bert)
    cutting = splitting(bert)
    assert are_split(cutting) and not are_split(bert)
    assert {text: " ".join(cutting.tokenize(text)) for text in CUT} == CUT
    assert {text: cutting.tokenize(text) for text in WHOLE} == whole


def test_what_is_saved_cuts_in_both_libraries(bert: BertTokenizer, tmp_path: Path) -> None:
    cutting = splitting(bert)
    cutting.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    ours = FastTokenizer(
        tmp_path / "saved" / "tokenizer.json", read_json(tmp_path / "saved" / "tokenizer_config.json", dict)
    )
    texts = [*CUT, *WHOLE, "", "Snake readURL, PARSE"]
    expected = cutting(texts)["input_ids"]
    assert again(texts)["input_ids"] == expected
    assert ours(texts, True, 99, False)["input_ids"] == expected
    assert are_split(again) and are_split(ours) and ours.gives_types


def test_spans_are_of_the_text_as_it_came() -> None:
    encoder = load_encoder()
    text = "def parseHttpResponse(raw): HTTPServer"
    (tokens,) = encoder.token_spans([text], is_query=False)  # type: ignore[attr-defined]
    spans = [token.span for token in tokens if token.span]
    assert all(text[slice(*token.span)] == token.text for token in tokens if token.span)
    assert {text[slice(*span)] for span in spans} >= {"def", "Http", "Response", "raw", "Server"}


def test_the_shipped_model_reads_an_identifier_as_its_words() -> None:
    encoder = load_encoder()
    one, other = (encoder.encode_queries([text]) for text in ("parse http response", "parseHttpResponse"))
    assert isinstance(one, TokenVectors) and isinstance(other, TokenVectors)
    assert np.abs(one.values_TD - other.values_TD).max() < 1e-5
    assert are_split(AutoTokenizer.from_pretrained(SHIPPED_MODEL))


def test_an_index_made_without_is_not_searched_with(tmp_path: Path) -> None:
    retriever = Retriever.create(tmp_path / "index", Earlier(load_encoder()))
    retriever.add([Document("sky", "Air scatters blue light.")])
    with pytest.raises(FlatcoatError, match="split_identifiers False"):
        Retriever.open(tmp_path / "index").search("why is the sky blue?")
    assert Retriever.open(tmp_path / "index").search("light", mode="bm25")
