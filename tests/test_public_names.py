"""The package's public names: all of them listed, documented and ours."""

import inspect

import pytest

import flatcoat
from flatcoat import FlatcoatError, errors

LEAVES = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, FlatcoatError)]


def test_all_names_what_the_package_offers() -> None:
    offered = {name for name in dir(flatcoat) if not name.startswith("_")}
    modules = {name for name in offered if inspect.ismodule(getattr(flatcoat, name))}
    helpers = {"import_module", "TYPE_CHECKING", "Any"}
    assert set(flatcoat.__all__) == offered - modules - helpers
    assert list(flatcoat.__all__) == sorted(flatcoat.__all__)


@pytest.mark.parametrize("name", flatcoat.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(flatcoat, name)
    assert inspect.getdoc(value), f"{name} has no docstring"
    if inspect.isclass(value):
        assert value.__module__.startswith("flatcoat")
        methods = inspect.getmembers(value, inspect.isfunction)
        for method, function in methods:
            ours = function.__module__.startswith("flatcoat") and not method.startswith("_")
            # What torch calls by its own name is documented by its class.
            if ours and method != "forward":
                assert inspect.getdoc(function), f"{name}.{method} has no docstring"


def test_every_error_that_a_caller_can_tell_apart_is_public() -> None:
    assert {kind.__name__ for kind in LEAVES} <= set(flatcoat.__all__)
