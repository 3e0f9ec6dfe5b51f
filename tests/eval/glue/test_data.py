import json

import pytest

from flatcoat import FlatcoatError
from flatcoat.eval.glue.data import Example, load_folder, load_hub
from flatcoat.eval.glue.tasks import PAPER_AVERAGE, TASKS

COLA = "gj04\t1\t\tThe dog barked.\ngj04\t0\t*\tBarked dog the.\n"
RTE = 'index\tsentence1\tsentence2\tlabel\n0\t"A dog\x85 barked.\tIt barked.\tentailment\n'
MNLI = "index\tpromptID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n"


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_bytes(text.encode())
    return folder


def sizes(data):
    return {name: len(examples) for name, examples in data.dev.items()}


def test_cola_has_no_header_and_two_development_sets(tmp_path):
    data = load_folder(
        TASKS["cola"],
        write(tmp_path, in_domain_train__tsv=COLA, in_domain_dev__tsv=COLA, out_of_domain_dev__tsv=COLA * 2),
    )
    assert data.train == [Example(("The dog barked.",), 1), Example(("Barked dog the.",), 0)]
    assert sizes(data) == {"in-domain": 2, "out-of-domain": 4}


def test_quotes_and_strange_line_breaks_are_text(tmp_path):
    data = load_folder(TASKS["rte"], write(tmp_path, train__tsv=RTE, dev__tsv=RTE.replace("\n", "\r\n")))
    assert data.train == data.dev["dev"] == [Example(('"A dog\x85 barked.', "It barked."), 0)]


def test_columns_are_found_by_their_names(tmp_path):
    line = "7\tp\tfiction\tA dog barked.\tIt slept.\tneutral\tcontradiction\n"
    one, two = MNLI + line, MNLI + line * 2
    write(tmp_path, train__tsv=one, dev_matched__tsv=one, dev_mismatched__tsv=two)
    data = load_folder(TASKS["mnli"], tmp_path)
    assert data.train == [Example(("A dog barked.", "It slept."), 2)]
    assert sizes(data) == {"matched": 1, "mismatched": 2}


def test_a_byte_order_mark_and_regression(tmp_path):
    text = "\ufeffindex\tsentence1\tsentence2\tscore\n0\tA dog.\tA cat.\t2.75\n"
    assert load_folder(TASKS["stsb"], write(tmp_path, train__tsv=text, dev__tsv=text)).train[0].label == 2.75


def test_json_records_are_the_hubs(tmp_path):
    records = json.dumps([{"premise": "A dog.", "hypothesis": "A pet.", "label": 0, "idx": 9}])
    data = load_folder(TASKS["mnli"], write(tmp_path, train_3000__json=records, eval_256__json=records))
    assert data.dev == {"dev": [Example(("A dog.", "A pet."), 0)]}


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        ("cola", COLA + "gj04\t1\tno mark\n", r"train\.tsv:3 has 3 fields, 4 wanted"),
        ("cola", COLA + "\n", r"train\.tsv:3 has 1 fields"),
        ("cola", COLA + "gj04\t2\t\tA dog.\n", r"train\.tsv:3: the label of CoLA is '2': 0 or 1 is wanted"),
        ("cola", COLA + "gj04\t0.5\t\tA dog.\n", r"label of CoLA is '0\.5'"),
        ("cola", COLA + "gj04\t1\t\t \n", r"train\.tsv:3 has an empty text"),
        ("cola", "", r"train\.tsv holds no example"),
        ("rte", RTE.replace("sentence2", "text2"), r"train\.tsv:1 has no column sentence2"),
        ("rte", RTE + "1\tA\tB\n", r"train\.tsv:3 has 3 fields"),
        ("rte", RTE + "1\tA\tB\tmaybe\n", "'maybe': entailment or not_entailment is wanted"),
        ("stsb", RTE.replace("label", "score").replace("entailment", "5.5"), "from 0 to 5"),
        ("stsb", RTE.replace("label", "score").replace("entailment", "nan"), "from 0 to 5"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, task, text, message):
    with pytest.raises(FlatcoatError, match=message):
        load_folder(TASKS[task], write(tmp_path, train__tsv=text, dev__tsv=text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"premise": "A", "hypothesis": "B", "label": 0}, {"premise": "A", "label": 0}]', "record 2 needs"),
        ('[{"premise": "A", "hypothesis": "B"}]', "record 1: the label of MNLI is 'None'"),
        ('[\n{"premise"]', r"train\.json:2 is not JSON"),
        ("{}", "holds no list"),
    ],
)
def test_a_malformed_record_is_named(tmp_path, text, message):
    with pytest.raises(FlatcoatError, match=message):
        load_folder(TASKS["mnli"], write(tmp_path, train__json=text, eval__json=text))


def test_missing_and_ambiguous_files(tmp_path):
    with pytest.raises(FlatcoatError, match=r"none of train\.tsv, in_domain_train\.tsv"):
        load_folder(TASKS["rte"], write(tmp_path, dev__tsv=RTE))
    with pytest.raises(FlatcoatError, match=r"no RTE data: none of dev\.tsv"):
        load_folder(TASKS["rte"], write(tmp_path / "a", train__tsv=RTE))
    with pytest.raises(FlatcoatError, match=r"holds dev\.tsv, val\.tsv for the same"):
        load_folder(TASKS["rte"], write(tmp_path / "b", train__tsv=RTE, dev__tsv=RTE, val__tsv=RTE))


def test_a_sample_is_drawn_without_repeats_and_the_same_again(tmp_path):
    lines = "".join(f"gj04\t1\t\tDog {number}.\n" for number in range(50))
    data = load_folder(TASKS["cola"], write(tmp_path, train__tsv=lines, dev__tsv=COLA))
    sample = data.sample(20)
    assert len(set(sample.train)) == 20 and set(sample.train) < set(data.train)
    assert sample.train == data.sample(20).train != data.train[:20]
    assert sample.dev == data.dev
    with pytest.raises(FlatcoatError, match="has 50 training examples: 51 came"):
        data.sample(51)


def test_without_the_hub_a_folder_is_asked_for():
    with pytest.raises(FlatcoatError, match=r"nyu-mll/glue cannot be read .* give the folder"):
        load_hub(TASKS["rte"])


def test_the_papers_averages_are_those_of_its_scores():
    for size, average in PAPER_AVERAGE.items():
        scores = [getattr(task, size).score for task in TASKS.values()]
        # Its tables cut the averages where one would round.
        assert 0 <= sum(scores) / 8 - average < 0.1
