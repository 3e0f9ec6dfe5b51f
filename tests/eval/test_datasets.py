import json
import tracemalloc

import pytest

from flatcoat import FlatcoatError
from flatcoat.eval.datasets import load_beir

DOCUMENT = '{"_id": "a", "text": "x"}\n'


def test_a_folder_is_read_with_null_titles_and_nested_metadata(write_beir):
    dataset = load_beir(write_beir())
    assert (dataset.name, dataset.split) == ("pets", "test")
    assert [(document.id, document.title) for document in dataset.documents] == [
        ("cats", "Cats"),
        ("dogs", ""),
        ("birds", ""),
        ("boats", ""),
    ]
    assert dataset.queries == {"q1": "why does a cat purr", "q2": "what do dogs retrieve"}
    assert dataset.qrels == {"q1": {"cats": 2}, "q2": {"dogs": 1, "birds": 1}}
    assert dataset.notices == ["1 queries have no judgement in 'test': left out"]


@pytest.mark.parametrize(
    "text", ["q1\tcats\t2\n", "query-id\tcorpus-id\tscore\r\nq1\tcats\t2\r\n\r\n", "\ufeffq1\tcats\t2"]
)
def test_the_header_is_optional(write_beir, text):
    assert load_beir(write_beir(test=text)).qrels == {"q1": {"cats": 2}}


def test_numeric_ids_become_strings(write_beir):
    folder = write_beir(corpus='{"_id": 7, "text": "x"}', queries='{"_id": 1, "text": "y"}', test="1\t7\t1")
    dataset = load_beir(folder)
    assert [document.id for document in dataset.documents] == ["7"] and dataset.queries == {"1": "y"}


def test_without_a_split_the_only_one_or_test_is_taken(write_beir):
    line = "q1\tcats\t1"
    assert load_beir(write_beir("only", dev=line)).split == "dev"
    assert load_beir(write_beir("several", dev=line, test=line)).split == "test"
    unclear = write_beir("unclear", dev=line, train=line)
    assert load_beir(unclear, "train").split == "train"
    for split in (None, "test"):
        with pytest.raises(FlatcoatError, match="choose one of dev, train"):
            load_beir(unclear, split)


def test_what_looks_wrong_is_counted(write_beir):
    corpus = DOCUMENT + '{"_id": "b", "text": null}\n{"_id": "c", "title": "t", "text": " "}\n'
    queries = '{"_id": "q1", "text": ""}\n{"_id": "q2", "text": "w"}\n{"_id": "q3", "text": "w"}\n'
    qrels = "q1\ta\t1\nq1\tlost\t1\nq2\tgone\t0\nghost\ta\t1\n"
    dataset = load_beir(write_beir(corpus=corpus, queries=queries, test=qrels))
    assert dataset.notices == [
        "2 documents have an empty text: kept",
        "1 queries have an empty text: kept",
        "2 judgements name documents that are not in corpus.jsonl: kept, counted as not found",
        "1 queries have no relevant document: kept, they score 0",
        "1 judged queries are not in queries.jsonl: left out",
        "1 queries have no judgement in 'test': left out",
    ]
    assert dataset.qrels == {"q1": {"a": 1, "lost": 1}, "q2": {"gone": 0}}


def test_only_a_query_with_the_documents_own_text_is_that_document(write_beir):
    corpus = '{"_id": "1", "text": "same  words"}\n{"_id": "2", "text": "other words"}\n'
    queries = '{"_id": "1", "text": "same words"}\n{"_id": "2", "text": "a coincidence"}\n'
    dataset = load_beir(write_beir(corpus=corpus, queries=queries, test="1\t2\t1\n2\t1\t1\n"))
    assert dataset.self_hits == {"1"}


def test_the_corpus_is_read_line_by_line_whenever_it_is_iterated(write_beir):
    document = json.dumps({"_id": 0, "text": 10_000 * "x"})
    corpus = "".join(document.replace("0", str(number), 1) + "\n" for number in range(2_000))
    folder = write_beir(corpus=corpus, queries='{"_id": "q", "text": "x"}', test="q\t7\t1")
    del corpus
    tracemalloc.start()
    dataset = load_beir(folder)
    for _ in range(2):
        assert sum(1 for _ in dataset.documents) == len(dataset.documents) == 2_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6, "the texts take 20 MB"


def test_the_revision_is_that_of_the_files_of_the_split(write_beir):
    line = "q1\tcats\t1"
    first = load_beir(write_beir("first", test=line, dev=line))
    again = load_beir(write_beir("again", test=line, dev="q2\tdogs\t1"))
    assert len(first.revision) == 16 and int(first.revision, 16)
    assert first.revision == again.revision
    changed = [
        load_beir(write_beir("qrels", test="q1\tcats\t2")),
        load_beir(write_beir("corpus", corpus='{"_id": "cats", "text": "x"}', test=line)),
        load_beir(write_beir("queries", queries='{"_id": "q1", "text": "x"}', test=line)),
    ]
    assert len({first.revision, *(dataset.revision for dataset in changed)}) == 4


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"corpus": None}, r"corpus\.jsonl is missing: a BEIR folder holds"),
        ({"queries": None}, r"queries\.jsonl is missing: a BEIR folder holds"),
        ({"corpus": ""}, "corpus.jsonl holds no documents"),
        ({"corpus": DOCUMENT + '{"_id": "b", "te'}, r"corpus\.jsonl:2: not JSON"),
        ({"corpus": DOCUMENT + "[]"}, r"corpus\.jsonl:2: not a JSON object"),
        ({"corpus": DOCUMENT + DOCUMENT}, r"corpus\.jsonl:2: repeats the id 'a'"),
        ({"corpus": '{"_id": "a"}'}, r"corpus\.jsonl:1: no column 'text'"),
        ({"corpus": '{"text": "a"}'}, r"corpus\.jsonl:1: no column '_id' or 'id'"),
        ({"corpus": '{"_id": "a", "text": ["b"]}'}, r"corpus\.jsonl:1: the text must be a text or null"),
        ({"queries": DOCUMENT + "\n" + DOCUMENT}, r"queries\.jsonl:3: repeats the id 'a'"),
        ({"test": "q1\tcats\n"}, r"test\.tsv:1 has 2 columns"),
        ({"test": "q1 0 cats 1\n"}, r"test\.tsv:1 has 1 columns"),
        ({"test": "q1\tcats\t1\nq1\tdogs\thigh\n"}, r"test\.tsv:2: the score 'high' is not an integer"),
        ({"test": "q1\tcats\t1\nq1\tcats\t2\n"}, r"test\.tsv:2 judges .* again"),
        ({"test": "ghost\tcats\t1\n"}, "no query is judged in 'test'"),
    ],
)
def test_a_broken_folder_is_an_error_that_says_where(write_beir, files, message):
    with pytest.raises(FlatcoatError, match=message):
        load_beir(write_beir(**files))


def test_a_missing_folder_and_missing_qrels_say_the_layout(write_beir, tmp_path):
    with pytest.raises(FlatcoatError, match=r"not a folder: a BEIR folder holds corpus\.jsonl"):
        load_beir(tmp_path / "nowhere")
    folder = write_beir()
    (folder / "qrels" / "test.tsv").unlink()
    with pytest.raises(FlatcoatError, match=r"qrels holds no \.tsv file: a BEIR folder holds"):
        load_beir(folder)


def test_bytes_that_are_not_utf8_are_named(write_beir):
    folder = write_beir()
    (folder / "corpus.jsonl").write_bytes(b'{"_id": "a", "text": "caf\xe9"}')
    with pytest.raises(FlatcoatError, match=r"corpus\.jsonl:1: not UTF-8"):
        load_beir(folder)


def test_every_real_folder_loads(real_data):
    folders = [path.parent for path in sorted(real_data.glob("*/corpus.jsonl"))]
    assert folders
    for folder in folders:
        split = sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))[0]
        dataset = load_beir(folder, split)
        assert dataset.queries.keys() == dataset.qrels.keys()
        assert len(dataset.documents) == sum(1 for _ in (folder / "corpus.jsonl").open()), json.dumps(
            folder.name
        )
