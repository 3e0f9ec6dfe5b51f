import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from typer.testing import CliRunner

from flatcoat import FlatcoatError, Recipe
from flatcoat.recipes.commands import app, find_recipe
from flatcoat.retrieval.data.source import Source
from flatcoat.retrieval.training.settings import TrainingSettings


def write(folder: Path, **changes: Any) -> Path:
    """A small recipe; a key that is changed to None is left out."""
    values = {"name": "tiny", "kind": "colbert", "scratch": {"hidden_size": 64}, "data": [{"beir": "pets"}]}
    values = {name: value for name, value in (values | changes).items() if value is not None}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_recipe_is_read_with_its_defaults(tmp_path: Path) -> None:
    recipe = Recipe.load(write(tmp_path, training={"learning_rate": 0.001}))
    assert (recipe.name, recipe.kind, recipe.base) == ("tiny", "colbert", None)
    assert recipe.scratch is not None
    assert (recipe.scratch.hidden_size, recipe.scratch.num_hidden_layers) == (64, 4)
    assert (recipe.training.learning_rate, recipe.training.batch_size) == (0.001, 16)
    assert [source.label for source in recipe.data] == ["pets"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nmae": "x"}, "unknown key nmae; did you mean name?"),
        ({"zzz": 1}, "unknown key zzz; known keys: name, description, kind, base"),
        ({"training": {"batchsize": 4}}, "unknown key training.batchsize; did you mean batch_size?"),
        ({"encoder": {"querylength": 4}}, "unknown key encoder.querylength; did you mean query_length?"),
        ({"scratch": {"layers": 4}}, "unknown key scratch.layers; did you mean num_hidden_layers?"),
        ({"data": [{"beir": "a"}, {"bier": "b"}]}, "unknown key data.1.bier; did you mean beir?"),
        ({"kind": "sparse"}, "kind: Input should be 'colbert' or 'dense'"),
        ({"name": None}, "name: Field required"),
        ({"name": ""}, "name: String should have at least 1 character"),
        ({"data": None}, "data: Field required"),
        ({"data": []}, "data: Tuple should have at least 1 item"),
        ({"data": [{}]}, "data.0: name exactly one of beir, jsonl, parquet, hub, docstrings"),
        ({"data": [{"beir": "a", "jsonl": "b"}]}, "data.0: name exactly one of beir, jsonl, parquet, hub"),
        ({"training": {"batch_size": "many"}}, "training.batch_size: Input should be a valid integer"),
        ({"training": {"batch_size": 0}}, "training.batch_size: Input should be greater than 0"),
        ({"training": {"warmup": 2}}, "training.warmup: Input should be less than or equal to 1"),
        ({"training": {"precision": "fp8"}}, "training.precision: Input should be 'auto', 'fp32' or 'bf16'"),
        ({"scratch": None}, "the recipe: name exactly one of base"),
        (
            {"kind": "dense", "training": {"teachers": {"bm25": 1}}},
            "the recipe: training.teachers are for kind: colbert",
        ),
        ({"encoder": {"projection": "best"}}, "encoder.projection: Input should be 'random' or 'principal'"),
        ({"base": "org/model"}, "the recipe: name exactly one of base"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(FlatcoatError) as caught:
        Recipe.load(path)
    assert str(caught.value).startswith(f"recipe {path}: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no keys"),
        ("- a\n", "holds no keys"),
        ("a: [", "is not YAML"),
        ("\tname: x", "is not YAML"),
    ],
)
def test_what_is_no_recipe(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(FlatcoatError, match=message):
        Recipe.load(tmp_path / "bad.yaml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match="cannot be read: No such file"):
        Recipe.load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"name: \xff")
    with pytest.raises(FlatcoatError, match="is not YAML"):
        Recipe.load(tmp_path / "bad.yaml")


def test_overrides_change_keys_with_yaml_values(tmp_path: Path) -> None:
    overrides = [
        "training.batch_size=64",
        "training.learning_rate=0.5",
        "data.0.max_pairs=7",
        "encoder.query_expansion=false",
        "scratch=null",
        "base=org/a=b",
        "description=",
    ]
    with pytest.raises(FlatcoatError, match="description: Input should be a valid string"):
        Recipe.load(write(tmp_path), overrides)
    recipe = Recipe.load(write(tmp_path), overrides[:-1])
    assert (recipe.training.batch_size, recipe.training.learning_rate) == (64, 0.5)
    assert (recipe.data[0].max_pairs, recipe.encoder.query_expansion) == (7, False)
    assert (recipe.scratch, recipe.base) == (None, "org/a=b")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.batch_size", "key=value is wanted"),
        ("=4", "key=value is wanted"),
        ("training.batchsize=4", "unknown key training.batchsize; did you mean batch_size"),
        ("name.first=x", "--set 'name.first=x': name a key"),
        ("data.0=x", "--set 'data.0=x': name a key, as in training.batch_size or data.0.max_pairs"),
        ("data.9.max_pairs=1", "there is nothing at 9"),
        ("data.first.max_pairs=1", "there is nothing at first"),
        ("training.batch_size=[", r"--set 'training\.batch_size=\[' is not YAML"),
    ],
)
def test_bad_overrides(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(FlatcoatError, match=message):
        Recipe.load(write(tmp_path), [override])


def test_a_recipe_is_found_by_file_or_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path)
    assert find_recipe(str(path)) == path
    assert find_recipe("flatcoat-small") == find_recipe("flatcoat-small.yaml")
    with pytest.raises(FlatcoatError, match=r"no recipe nothing: give a file, or one of .*flatcoat-small"):
        find_recipe("nothing")
    with pytest.raises(FlatcoatError, match="no recipe"):
        find_recipe("../recipes/flatcoat-small")


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES_ARE_DISTINCT = Version(yaml.__version__) >= Version("6.0.4")
"""Whether PyYAML keeps each merged key once, so that MERGES does no harm."""
MERGES = "a: &a {x: 1}\n" + "".join(
    f"b{number}: &b{number} {{<<: [*{before}, *{before}]}}\n"
    for number, before in enumerate(["a", *(f"b{number}" for number in range(40))])
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: x\nkind: dense\ntraining: {seed: 2023-99-99}\n",
            "training.seed: Input should be a valid int",
        ),
        ("training: {seed: " + "9" * 5_000 + "}\n", "training.seed: "),
        ("training: {seed: -1}\n", "training.seed: Input should be greater than or equal to 0"),
        (
            "training: {max_steps: 1" + "0" * 30 + "}\n",
            "training.max_steps: Input should be less than",
        ),
        (
            "training: {learning_rate: .inf}\n",
            "training.learning_rate: Input should be a finite number",
        ),
        ("training: {epochs: .nan}\n", "training.epochs: Input should be a finite number"),
        ("data: [{jsonl: a, weight: .inf}]\n", "data.0.weight: Input should be a finite number"),
        ("[" * 20_000, "nested too deeply"),
        ("name: " + "[" * 50 + "]" * 50, "values nested too deeply, at name"),
        (LAUGHS, "more than 10,000 values"),
        (MERGES, "name: Field required" if MERGES_ARE_DISTINCT else "too many merged keys"),
        ("a: &a [*a]\n", "nested too deeply, at a"),
        ("name: !!python/object/apply:os.system [ls]\n", "is not YAML: .*python/object/apply"),
        ("name: !!bool perhaps\n", "is not YAML: .*no bool.* line \\d, column 7"),
        ("name: !!timestamp x\n", "is not YAML: .*no timestamp"),
        ("name: !other x\n", "is not YAML: .*!other"),
        ("1: x\n", "1"),
        ("? [a]\n: b\n", "is not YAML"),
        ('encoder: {"a\\nb": x}\n', "unknown key encoder.a b"),
        ('name: "a\\0b"\n', "half a surrogate pair at name"),
        ('data: [{jsonl: "\\ud83e"}]\n', "half a surrogate pair at data.0.jsonl"),
        ("name: ../../elsewhere\nkind: dense\n", "name: a name that a folder can have"),
        ("name: /tmp/elsewhere\nkind: dense\n", "name: a name that a folder can have"),
        (f"name: {'ä' * 150}\n", "name: a name that a folder can have"),
        (f"data: [{{jsonl: {'a' * 5_000}}}]\n", "data.0.jsonl: longer than a path may be"),
        (f"data: [{{hub: org/{'a' * 300}}}]\n", "data.0.hub: longer than a path may be"),
        (
            "data: [{beir: a, split: ../../x}]\n",
            "data.0.split: the name of a split is wanted, without slashes",
        ),
        (f"base: {'a' * 300}\n", "base: longer than a path may be"),
        (f"dev: [{'a/' * 2_000}]\n", "dev.0: longer than a path may be"),
        (f"evaluate: [{'a' * 256}]\n", "evaluate.0: longer than a path may be"),
        (f"data_root: {'a' * 256}\n", "data_root: longer than a path may be"),
        ("extends: [a]\n", "extends: the name of a recipe is wanted, not"),
        ("extends: " + "a" * 5_000, "extends: the name of a recipe is wanted, not"),
        ("extends: " + "ä" * 150, "extends: the name of a recipe is wanted, not"),
        ('extends: "a\\0b"\n', "half a surrogate pair at extends"),
        ("extends: tiny\n", "extends tiny, which extends it: break the circle"),
        ("extends: ./tiny\n", "which extends it: break the circle"),
        ("extends: ../none\n", "cannot be read: No such file"),
        ("name: x\n" + "#" * 1_000_001, "larger than 1,000,000 bytes"),
    ],
    ids=range(39),
)
def test_recipes_that_mean_harm_are_one_line_of_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "tiny.yaml"
    rest = {"name": "x", "kind": "dense", "base": "org/model", "data": [{"jsonl": "a"}]}
    missing = {key: value for key, value in rest.items() if not text.startswith(key)}
    whole = text if text[0] in "[?a" else yaml.safe_dump(missing) + text
    path.write_text(whole)
    with pytest.raises(FlatcoatError, match=message) as caught:
        Recipe.load(path)
    assert str(caught.value).startswith("recipe /")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1_000


def test_merged_keys_are_read(tmp_path: Path) -> None:
    text = "data: [&a {jsonl: a, repeat: 2}, {<<: *a, jsonl: b}]\nname: x\nkind: dense\nbase: org/model\n"
    (tmp_path / "x.yaml").write_text(text)
    assert [source.repeat for source in Recipe.load(tmp_path / "x.yaml").data] == [2, 2]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for path in (tmp_path / "pipe.yaml", tmp_path / "folder.yaml", Path("/dev/zero")):
        with pytest.raises(FlatcoatError, match="cannot be read: it is no file"):
            Recipe.load(find_recipe(str(path)))
    (tmp_path / "a.yaml").write_text("extends: pipe\n")
    with pytest.raises(FlatcoatError, match=r"pipe\.yaml cannot be read: it is no file"):
        Recipe.load(tmp_path / "a.yaml")
    for name in ("a" * 5_000, "a\0b"):
        with pytest.raises(FlatcoatError, match="no recipe a"):
            find_recipe(name)
        with pytest.raises(FlatcoatError, match="cannot be read: "):
            Recipe.load(Path(name))


def test_a_circle_is_found_however_it_is_written(tmp_path: Path) -> None:
    for name, extends in (("a", "sub/../b"), ("b", "c"), ("c", "link")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {extends}\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    with pytest.raises(FlatcoatError, match="break the circle"):
        Recipe.load(tmp_path / "a.yaml")


def test_a_chain_of_recipes_ends(tmp_path: Path) -> None:
    for number in range(2_000):
        (tmp_path / f"{number}.yaml").write_text(f"extends: '{number + 1}'\n")
    with pytest.raises(FlatcoatError, match="shorten the chain"):
        Recipe.load(tmp_path / "0.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.seed=2023-99-99", "training.seed: Input should be a valid integer"),
        ("training.seed=" + "9" * 5_000, "training.seed: "),
        ("data.².max_pairs=1", "there is nothing at ²"),
        (f"data.{'9' * 5_000}.max_pairs=1", "there is nothing at 999"),
        ("data.-1.max_pairs=1", "there is nothing at -1"),
        ("a.b.c", "key=value is wanted"),
        ("training.seed=" + "[" * 20_000, "nested too deeply"),
        ("training.seed=!!int x", "training.seed: Input should be a valid integer"),
        ("training=&a [*a]", "nested too deeply"),
        ("name=\ud83e", "is not YAML"),
        ("name=a\0b", "is not YAML"),
        ("training.\ud83e=1", "half a surrogate pair"),
        ("..=1", "unknown key"),
    ],
    ids=range(13),
)
def test_overrides_that_mean_harm_are_one_line_of_error(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(FlatcoatError, match=message) as caught:
        Recipe.load(write(tmp_path), [override])
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1_000


def test_the_command_says_what_is_wrong_with_a_recipe_or_an_override(tmp_path: Path) -> None:
    good, bad = write(tmp_path), tmp_path / "bad.yaml"
    bad.write_text("name: x\ntraining: {seed: 2023-99-99}\n")
    for arguments in (["train", str(bad)], ["train", str(good), "--set", "a.b.c"], ["train", "a" * 5_000]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2, result.exception


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["pets", "auto", "1e9"]),
)
KEYS = st.sampled_from(
    [*Recipe.model_fields, *TrainingSettings.model_fields, *Source.model_fields, "extends", "x"]
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
YAML_SIGNS = st.text("[]{}:,-?&*!|>%@`'\"# \n\tab0.<=~\\", max_size=60)


def only_flatcoat_errors(folder: Path, text: str, overrides: list[str]) -> None:
    path = folder / "fuzzed.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        Recipe.load(path, overrides)
    except FlatcoatError as error:
        assert len(str(error).splitlines()) == 1
        assert len(str(error)) < 1_500


def fuzz(folder: Path, examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(
        st.one_of(YAML_SIGNS, st.text(max_size=60), st.dictionaries(KEYS, TREES).map(yaml.safe_dump)),
        st.lists(
            st.one_of(st.text(max_size=30), st.tuples(KEYS, TREES).map(lambda pair: f"{pair[0]}={pair[1]}"))
        ),
    )
    def run(text: str, overrides: list[str]) -> None:
        only_flatcoat_errors(folder, text, overrides)

    run()


def test_whatever_stands_in_a_recipe_only_flatcoats_errors_come(tmp_path: Path) -> None:
    fuzz(tmp_path, 150)


@pytest.mark.slow
def test_whatever_stands_in_a_recipe_only_flatcoats_errors_come_at_length(tmp_path: Path) -> None:
    fuzz(tmp_path, 5_000)
