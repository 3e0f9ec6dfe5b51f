"""A model that only a recipe names is data: nothing in its folder runs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flatcoat import FlatcoatError, Recipe
from flatcoat.recipes.run import run

MakeFolder = Callable[..., Path]

CODE = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nclass Boom: pass\n"


def changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def named(folder: Path, type: str, path: str = "1_Dense") -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[1] |= {"type": type, "path": path}
    (folder / "modules.json").write_text(json.dumps(modules))


HARM: dict[str, tuple[Callable[[Path], None], str]] = {
    "a class of its own": (
        lambda folder: named(folder, "payload.Boom"),
        r"modules\.json names payload\.Boom",
    ),
    "a class of anybody": (lambda folder: named(folder, "subprocess.Popen"), "names subprocess.Popen"),
    "a module that reads classes": (
        lambda folder: named(folder, "sentence_transformers.models.Router"),
        "names sentence_transformers.models.Router",
    ),
    "a look-alike of a package": (lambda folder: named(folder, "pylate2.Dense"), "names pylate2.Dense"),
    "a path out of it": (lambda folder: named(folder, "pylate.models.Dense.Dense", "../x"), r"names \.\./x"),
    "an activation": (
        lambda folder: changed(folder / "1_Dense" / "config.json", activation_function="payload.Boom"),
        r"1_Dense/config\.json names payload\.Boom",
    ),
    "an activation of a library": (
        lambda folder: changed(folder / "1_Dense" / "config.json", activation_function="os.abort"),
        "names os.abort",
    ),
    "an auto_map": (
        lambda folder: changed(folder / "config.json", auto_map={"AutoModel": "payload.Boom"}),
        r"config\.json has an auto_map",
    ),
    "modules that are none": (
        lambda folder: (folder / "modules.json").write_text("[" * 9_999),
        "is not JSON",
    ),
}


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("kind", ["colbert", "dense"])
def test_a_base_that_could_run_code_is_refused(
    recipe: Callable[..., Recipe],
    make_colbert: MakeFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    harm: str,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(make_colbert(), folder)
    (folder / "payload.py").write_text(CODE)
    do_harm, message = HARM[harm]
    do_harm(folder)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FlatcoatError, match=message) as caught:
        run(recipe(kind=kind, scratch=None, base=str(folder)), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (folder / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_a_base_that_the_user_names_himself_may_bring_a_class(
    recipe: Callable[..., Recipe], make_colbert: MakeFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(make_colbert(), folder)
    (folder / "own.py").write_text("from pylate.models.Dense import Dense\nclass Own(Dense): pass\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "own.Own"
    (folder / "modules.json").write_text(json.dumps(modules))
    values = recipe(scratch=None, base="org/other").model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(FlatcoatError, match=r"model is not loaded, .* \(--set base=\.\.\.\)"):
        run(Recipe.load(tmp_path / "recipe.yaml").model_copy(update={"base": str(folder)}), tmp_path / "one")
    loaded = Recipe.load(tmp_path / "recipe.yaml", [f"base={folder}", "training.max_steps=1"])
    assert run(loaded, tmp_path / "two").steps == 1
