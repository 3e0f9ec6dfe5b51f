from pathlib import Path
from typing import Any

import pytest
import yaml

from flatcoat import FlatcoatError, Recipe
from flatcoat.recipes.commands import find_recipe


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
