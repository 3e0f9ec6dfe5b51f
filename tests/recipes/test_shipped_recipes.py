"""One suite over every recipe file."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import flatcoat.recipes
from flatcoat import Recipe
from flatcoat.recipes.commands import find_recipe

FOLDER = Path(flatcoat.recipes.__file__).parent
FILES = sorted(path for path in FOLDER.glob("*.yaml") if not path.stem.startswith("pretrain-"))
PAPER = {
    "dpr-msmarco": {"base": "answerdotai/ModernBERT-base", "learning_rate": 8e-5},
    "dpr-msmarco-large": {"base": "answerdotai/ModernBERT-large", "learning_rate": 1e-4},
    "colbert-msmarco": {"base": "answerdotai/ModernBERT-base", "learning_rate": 8e-5},
    "colbert-msmarco-large": {"base": "answerdotai/ModernBERT-large", "learning_rate": 3e-5},
}
COMPARED = {
    "bert": "google-bert/bert-base-uncased",
    "roberta": "FacebookAI/roberta-base",
    "debertav3": "microsoft/deberta-v3-base",
    "nomicbert": "nomic-ai/nomic-bert-2048",
    "gte": "Alibaba-NLP/gte-en-mlm-base",
}


def test_there_are_recipes() -> None:
    names = {path.stem for path in FILES}
    local = {"flatcoat-small", "squad-dense", "squad-colbert", "code-colbert"}
    others = {"dpr-mldr", "colbert-mldr", "dpr-codesearchnet", "dpr-stackqa"}
    compared = {f"{name}-{kind}-msmarco" for name in COMPARED for kind in ("dpr", "colbert")}
    assert local | others | compared | PAPER.keys() <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_loads_under_its_name(path: Path) -> None:
    recipe = Recipe.load(path)
    assert recipe.name == path.stem
    assert find_recipe(recipe.name) == path
    assert recipe.description
    assert recipe.data_root == Path()
    assert all(source.licence for source in recipe.data)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_says_where_it_comes_from(path: Path) -> None:
    assert path.read_text().startswith("# ")
    inherited = yaml.safe_load(path.read_text()).get("extends")
    if inherited:
        assert Recipe.load(path).description != Recipe.load(FOLDER / f"{inherited}.yaml").description


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_run_records_is_the_same_recipe(path: Path, tmp_path: Path) -> None:
    recipe = Recipe.load(path)
    copy = tmp_path / "recipe.yaml"
    copy.write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True)))
    assert Recipe.load(copy) == recipe


@pytest.mark.parametrize("name", PAPER)
def test_it_has_the_paper_s_values(name: str) -> None:
    recipe = Recipe.load(find_recipe(name))
    (source,) = recipe.data
    training = recipe.training
    assert recipe.base == PAPER[name]["base"]
    assert training.learning_rate == PAPER[name]["learning_rate"]
    assert (training.warmup, training.epochs, training.precision) == (0.05, 1, "bf16")
    if recipe.kind == "dense":
        assert source.hub == "sentence-transformers/msmarco-co-condenser-margin-mse-sym-mnrl-mean-v1"
        assert (source.subset, source.max_pairs, source.negatives) == (
            "triplet-hard",
            1_250_000,
            ("negative",),
        )
        assert (training.loss, training.batch_size, training.mini_batch_size) == ("contrastive", 512, 16)
        assert training.temperature == 1 / 20
    else:
        assert source.hub == "lightonai/ms-marco-en-bge"
        assert (source.query, source.document, source.scores) == ("query_id", "document_ids", "scores")
        assert (training.loss, training.batch_size, training.document_length) == ("distillation", 16, 180)
        encoder = recipe.encoder
        assert (encoder.query_length, encoder.document_length, encoder.width) == (32, 300, 128)
        assert (encoder.query_prefix, encoder.document_prefix) == ("[Q] ", "[D] ")
        assert encoder.query_expansion


@pytest.mark.parametrize("kind", ["dpr", "colbert"])
@pytest.mark.parametrize("name", COMPARED)
def test_a_comparison_differs_by_its_backbone_alone(kind: str, name: str) -> None:
    def compared(recipe: Recipe) -> dict[str, Any]:
        return recipe.model_dump(exclude={"name", "description", "base", "encoder"})

    ours, theirs = (Recipe.load(find_recipe(stem)) for stem in (f"{kind}-msmarco", f"{name}-{kind}-msmarco"))
    assert theirs.base == COMPARED[name]
    assert compared(theirs) == compared(ours)


def test_code_sources_differ_by_language_alone() -> None:
    sources = Recipe.load(find_recipe("dpr-codesearchnet")).data
    languages = {"python", "javascript", "go", "ruby", "java", "php"}
    assert {
        (source.subset, source.queries, source.documents, source.query, source.document) for source in sources
    } == {
        (f"{name}-qrels", f"{name}-queries", f"{name}-corpus", "query-id", "corpus-id") for name in languages
    }


def write(path: Path, **values: Any) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_recipe_extends_another_key_by_key(tmp_path: Path) -> None:
    data = [{"beir": "pets"}]
    training = {"batch_size": 4, "learning_rate": 0.1}
    write(tmp_path / "lower.yaml", name="lower", kind="dense", base="a", data=data, training=training)
    write(tmp_path / "middle.yaml", extends="lower", name="middle", training={"learning_rate": 0.2})
    top = write(tmp_path / "top.yaml", extends="middle", base="b", data=[{"jsonl": "x.jsonl"}])
    recipe = Recipe.load(top, ["training.epochs=2"])
    assert (recipe.name, recipe.kind, recipe.base) == ("middle", "dense", "b")
    assert [source.label for source in recipe.data] == ["x"]
    assert (recipe.training.batch_size, recipe.training.learning_rate, recipe.training.epochs) == (4, 0.2, 2)


def test_what_cannot_be_extended(tmp_path: Path) -> None:
    write(tmp_path / "one.yaml", extends="two")
    with pytest.raises(flatcoat.FlatcoatError, match=r"two\.yaml cannot be read: No such file"):
        Recipe.load(tmp_path / "one.yaml")
    write(tmp_path / "two.yaml", extends="one")
    with pytest.raises(flatcoat.FlatcoatError, match="extends one, which extends it: break the circle"):
        Recipe.load(tmp_path / "one.yaml")


def test_a_recipe_of_one_s_own_extends_a_shipped_one(tmp_path: Path) -> None:
    own = Recipe.load(write(tmp_path / "own.yaml", extends="dpr-msmarco", name="own"))
    assert own == Recipe.load(find_recipe("dpr-msmarco")).model_copy(update={"name": "own"})
