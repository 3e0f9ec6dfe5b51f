"""Recipe files: YAML that extends other recipes, with overrides from the command line, checked by a schema.

An unknown key is an error that names the nearest known one.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from flatcoat.errors import DataError, UsageError

from .yaml_values import parse_yaml, read_yaml, require_sane, shown

Schema = TypeVar("Schema", bound=BaseModel)

_LONGEST_NAME = 200
_LONGEST_CHAIN = 20


def _one_folder(name: str) -> str:
    # The default output folder has this name.
    odd = name in (".", "..") or not name.isprintable() or {"/", "\\"} & set(name)
    if odd or len(name.encode()) > _LONGEST_NAME:
        raise ValueError("a name that a folder can have is wanted, without slashes")
    return name


RecipeName = Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME), AfterValidator(_one_folder)]


def read_recipe(schema: type[Schema], path: Path, overrides: Sequence[str] = ()) -> Schema:
    """Read and check a recipe; ``overrides`` are ``key.key=value`` with YAML values.

    Raises as ``Recipe.load`` does.
    """
    values = _read(path)
    for override in overrides:
        _override(values, override)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"recipe {path}: {_explain(error, schema)}") from None


def _read(path: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The values of a recipe, merged over the values of the recipe that it extends."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise DataError(f"recipe {path} holds no keys: name and data are needed, among others")
    if "extends" not in values:
        return values
    extends = values.pop("extends")
    if not isinstance(extends, str) or not 0 < len(extends.encode()) <= _LONGEST_NAME:
        raise UsageError(
            f"recipe {path}: extends: the name of a recipe is wanted, not {shown(repr(extends))}"
        )
    below = (*below, path.resolve())
    beside, shipped = path.parent / f"{extends}.yaml", Path(__file__).parent / f"{extends}.yaml"
    extended = shipped if shipped.is_file() and not beside.is_file() else beside
    if extended.resolve() in below:
        raise UsageError(f"recipe {path} extends {extends}, which extends it: break the circle")
    if len(below) > _LONGEST_CHAIN:
        raise UsageError(
            f"recipe {path} is the {len(below)}th that the one before it extends: shorten the chain"
        )
    return _merged(_read(extended, below), values)


def _merged(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """``upper`` over ``lower``, key by key within sections; a list replaces a whole list."""
    both = {
        key: _merged(lower[key], value)
        if isinstance(value, dict) and isinstance(lower.get(key), dict)
        else value
        for key, value in upper.items()
    }
    return lower | both


def _override(values: dict[str, Any], override: str) -> None:
    path, found, value = override.partition("=")
    what = f"--set {shown(repr(override))}"
    if not found or not path:
        raise UsageError(f"{what}: key=value is wanted, as in training.batch_size=64")
    require_sane(path, what)
    *parents, last = path.split(".")
    section: Any = values
    for key in parents:
        if isinstance(section, dict):
            section = section.setdefault(key, {})
        elif isinstance(section, list) and (place := _place(key, section)) is not None:
            section = section[place]
        else:
            raise UsageError(f"{what}: there is nothing at {shown(key)}")
    if not isinstance(section, dict):
        raise UsageError(f"{what}: name a key, as in training.batch_size or data.0.max_pairs")
    section[last] = parse_yaml(value, what)


def _place(key: str, items: Sequence[Any]) -> int | None:
    """The key as an index of ``items``; None if it is none."""
    return next((place for place in range(len(items)) if str(place) == key), None)


def _explain(error: ValidationError, schema: type[BaseModel]) -> str:
    first = error.errors()[0]
    location = shown(".".join(map(str, first["loc"]))) or "the recipe"
    if first["type"] != "extra_forbidden":
        return f"{location}: {shown(first['msg'].removeprefix('Value error, '))}"
    known = list(_section_at(schema, first["loc"][:-1]).model_fields)
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
    return f"unknown key {location}; {hint}"


def _section_at(schema: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel]:
    """The section at a place of a recipe; a place may name the kind of a section that has several."""
    sections = [schema]
    for key in location:
        if not isinstance(key, str):
            continue
        if key in sections[0].model_fields:
            sections = _sections_in(sections[0].model_fields[key].annotation) or sections
        else:
            sections = [one for one in sections if key in get_args(one.model_fields["kind"].annotation)]
    return sections[0]


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in _sections_in(part)]
