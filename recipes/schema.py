"""The schema of recipes. A recipe is one YAML file: a retriever, its training data and how it is trained.

An unknown key is an error that names the nearest known one. Defaults follow the paper (arXiv 2412.13663,
appendix E) where it states a value.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from flatcoat.errors import DataError, UsageError
from flatcoat.retrieval.data.source import Positive, SomeName, SomePath, Source
from flatcoat.retrieval.training.settings import TrainingSettings

from .yaml_values import parse_yaml, read_yaml, require_sane, shown

_LONGEST_NAME = 200
_LONGEST_CHAIN = 20


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Scratch(_Section):
    """A ModernBERT with random weights, and a tokenizer trained on the recipe's own data."""

    vocab_size: Positive = 10_240
    hidden_size: Positive = 256
    intermediate_size: Positive = 384
    num_hidden_layers: Positive = 4
    num_attention_heads: Positive = 4


class EncoderSettings(_Section):
    """How texts become vectors; lengths in tokens. Prefixes are a ColBERT's markers or a DPR's prompts.

    A new ``projection`` of a ColBERT has random weights, or those that keep most of the base's token vectors:
    the principal components of a sample of the training documents.
    """

    query_length: Positive = 32
    document_length: Positive = 300
    query_prefix: str | None = None
    document_prefix: str | None = None
    width: Positive = 128
    projection: Literal["random", "principal"] = "random"
    query_expansion: bool = True
    pooling: Literal["cls", "mean"] = "mean"


class Recipe(_Section):
    """One experiment. Start from ``base`` (a checkpoint) or from ``scratch``, not both.

    ``dev`` names BEIR folders whose mean nDCG@10 selects the best checkpoint of a run and the best run of a
    sweep (split "dev" if a folder has one), ``evaluate`` those that score the finished model for its card.
    Paths are relative to ``data_root``.

    >>> from flatcoat.recipes.commands import find_recipe
    >>> recipe = Recipe.load(find_recipe("squad-dense"), ["training.batch_size=8"])
    >>> recipe.kind, recipe.training.batch_size
    ('dense', 8)
    """

    name: Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME)]
    description: str = ""
    kind: Literal["colbert", "dense"]
    base: SomeName | None = None
    scratch: Scratch | None = None
    encoder: EncoderSettings = EncoderSettings()
    data_root: SomePath = Path()
    data: Annotated[tuple[Source, ...], Field(min_length=1)]
    dev: tuple[SomePath, ...] = ()
    evaluate: tuple[SomePath, ...] = ()
    training: TrainingSettings = TrainingSettings()
    _base_is_trusted: bool = PrivateAttr(default=False)

    @field_validator("name")
    @classmethod
    def _one_folder(cls, name: str) -> str:
        # The default output folder has this name.
        odd = name in (".", "..") or not name.isprintable() or {"/", "\\"} & set(name)
        if odd or len(name.encode()) > _LONGEST_NAME:
            raise ValueError("a name that a folder can have is wanted, without slashes")
        return name

    @model_validator(mode="after")
    def _one_start(self) -> "Recipe":
        if (self.base is None) == (self.scratch is None):
            raise ValueError("name exactly one of base (a checkpoint) and scratch (random weights)")
        return self

    @model_validator(mode="after")
    def _possible(self) -> "Recipe":
        training = self.training
        if self.kind == "colbert" and (training.symmetric or training.matryoshka):
            raise ValueError("training.symmetric and training.matryoshka are for kind: dense")
        if self.kind == "dense" and training.teachers:
            raise ValueError("training.teachers are for kind: colbert")
        if self.kind == "colbert" and training.loss == "distillation" and training.temperature != 1:
            raise ValueError("distillation of a colbert compares min-max-normalised scores: no temperature")
        if training.patience is not None and not self.dev:
            raise ValueError("training.patience needs dev sets to evaluate on: name them under dev")
        return self

    @property
    def sources(self) -> dict[str, Source]:
        """The sources by label, numbered if two have the same."""
        labelled: dict[str, Source] = {}
        for source in self.data:
            same = sum(other.label == source.label for other in labelled.values())
            labelled[f"{source.label}-{same + 1}" if same else source.label] = source
        return labelled

    @property
    def base_is_trusted(self) -> bool:
        """Whether the user named the base, not the recipe: only then may its checkpoint bring code."""
        return self._base_is_trusted

    @staticmethod
    def load(path: Path, overrides: Sequence[str] = ()) -> "Recipe":
        """Read a recipe; ``overrides`` are ``key.key=value`` with YAML values.

        A recipe may ``extends`` another recipe, beside it or shipped, named without ``.yaml``: keys that it
        lacks have the values of the other. Raises NotFoundError for a missing file, DataError for a file that
        is no YAML, and UsageError for a wrong key or value; the message names the file, the key and the
        accepted values.
        """
        values = _read(path)
        for override in overrides:
            _override(values, override)
        try:
            recipe = Recipe.model_validate(values)
        except ValidationError as error:
            raise UsageError(f"recipe {path}: {_explain(error)}") from None
        recipe._base_is_trusted = any(override.startswith("base=") for override in overrides)
        return recipe


def _read(path: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The values of a recipe, merged over the values of the recipe that it extends."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise DataError(f"recipe {path} holds no keys: name, kind and data are needed")
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


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    location = shown(".".join(map(str, first["loc"]))) or "the recipe"
    if first["type"] != "extra_forbidden":
        return f"{location}: {shown(first['msg'].removeprefix('Value error, '))}"
    known = list(_section_at(first["loc"][:-1]).model_fields)
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
    return f"unknown key {location}; {hint}"


def _section_at(location: Sequence[int | str]) -> type[BaseModel]:
    section: type[BaseModel] = Recipe
    for key in location:
        if isinstance(key, str):
            section = _section_in(section.model_fields[key].annotation) or section
    return section


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)
