"""Imports point down, never in a circle, and to packages that an installation has."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import flatcoat

ROOT = Path(flatcoat.__file__).parent
STOREYS = ("", "backbone", "indexing", "retrieval", "eval", "recipes", "__main__")
"""Bottom up; "" is what stands at the top of the package. ``backbone`` imports no sibling."""

ROOMS = {
    "backbone": ("families", "pretraining"),
    "indexing": ("reading", "chunking", "plaid", "faiss", "filters", "store", "collection"),
    "retrieval": ("encoders", "data", "training", "adapters", "distributed", "serving"),
    "eval": ("systems", "compare", "glue", "bench", "code_questions", "check"),
}
"""The sub-folders of each folder, bottom up."""


def modules() -> dict[str, Path]:
    """Every module by its dotted name below ``flatcoat``."""
    files = [
        *ROOT.glob("*.py"),
        *(file for storey in STOREYS[1:-1] for file in (ROOT / storey).rglob("*.py")),
    ]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}


def imports(name: str, known: dict[str, Path]) -> Iterator[str]:
    """The modules that a module imports, wherever in it the statement stands."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(known[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ["flatcoat", *package[: len(package) + 1 - node.level]] if node.level else []
            base = [*above, *(node.module.split(".") if node.module else [])]
            names = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for parts in names:
            if parts[0] == "flatcoat":
                here = next((end for end in (parts[1:], parts[1:-1]) if ".".join(end) in known), None)
                if here and ".".join(here) != name:
                    yield ".".join(here)


@cache
def arrows() -> list[tuple[str, str]]:
    known = modules()
    return [(name, imported) for name in known for imported in imports(name, known)]


def storey(name: str) -> int:
    head = name.partition(".")[0]
    return STOREYS.index(head if head in STOREYS else "")


def test_the_folders_are_those_that_are_ordered_here() -> None:
    folders = {name.split(".")[0] for name in modules() if "." in name}
    assert folders == set(STOREYS[1:-1])
    rooms = {tuple(name.split(".")[:2]) for name in modules() if name.count(".") > 1}
    assert rooms == {(folder, room) for folder, those in ROOMS.items() for room in those}


def test_imports_between_folders_point_down() -> None:
    # The package's own __init__ names the public classes of all storeys, and loads each on first use.
    upward = [
        (name, imported)
        for name, imported in arrows()
        if name != "__init__" and storey(imported) > storey(name)
    ]
    sideways = [(a, b) for a, b in arrows() if a.startswith("backbone.") and storey(b) > storey("backbone")]
    assert not upward + sideways


def test_imports_between_the_sub_folders_of_a_folder_point_down() -> None:
    for folder, rooms in ROOMS.items():
        order = {room: number for number, room in enumerate(rooms)}
        for name, imported in arrows():
            parts, others = name.split("."), imported.split(".")
            if parts[0] == others[0] == folder and parts[1] in order and others[1] in order:
                assert order[others[1]] <= order[parts[1]], f"{name} imports {imported}"


def test_no_two_modules_import_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for name, imported in arrows():
        if name != "__init__":
            graph.setdefault(name, set()).add(imported)
    order = list(TopologicalSorter(graph).static_order())  # Raises CycleError, which names the circle.
    assert len(order) > 100


def test_what_is_imported_comes_with_what_is_declared() -> None:
    """What only tests bring, or PyLate with all it needs, is missing where users install flatcoat."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    used = [extra for extra in extras if extra != "pylate" and not extra.startswith("test")]
    named = [one for extra in used for one in extras[extra]]
    installed = _installed_with([*project["dependencies"], *named]) | {"pylate"}
    distributions = packages_distributions()
    missing = {
        f"{name} in {file}"
        for name, file in _third_parties()
        if name in distributions and not {canonicalize_name(one) for one in distributions[name]} & installed
    }
    assert not missing


def _installed_with(requirements: list[str]) -> set[str]:
    """The names of distributions that pip installs for these requirements, as far as they are here."""
    found: set[str] = set()
    waiting = [Requirement(one) for one in requirements]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if name not in found:
            found.add(name)
            try:
                needs = [Requirement(need) for need in requires(name) or ()]
            except PackageNotFoundError:
                continue
            waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def _third_parties() -> Iterator[tuple[str, Path]]:
    """The packages that modules import, not Python's and not this one, each with a file that does."""
    for file in modules().values():
        for name in re.findall(r"^\s*(?:from|import) (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            if name not in sys.stdlib_module_names and name != "flatcoat":
                yield name, file
