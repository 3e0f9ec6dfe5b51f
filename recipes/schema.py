"""What a recipe may say. A recipe is one YAML file: a retriever, its training data and how it is trained.

Unknown keys are errors that name the nearest known one. Defaults follow the paper (arXiv 2412.13663, app. E)
where it states a value.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .. import FlatcoatError

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Section):
    """Training pairs from one place; exactly one of ``beir``, ``jsonl`` and ``docstrings`` is named.

    ``per_document`` keeps at most so many queries of a document, ``max_pairs`` so many pairs, both drawn with
    the recipe's seed. ``repeat`` shows the source so many times in an epoch. ``licence`` goes into the card.
    """

    beir: Path | None = None
    split: str = "train"
    jsonl: Path | None = None
    query: str = "query"
    document: str = "document"
    docstrings: tuple[str, ...] | None = None
    per_document: Positive | None = None
    max_pairs: Positive | None = None
    repeat: Positive = 1
    licence: str = ""

    @model_validator(mode="after")
    def _one_kind(self) -> "Source":
        if sum(kind is not None for kind in (self.beir, self.jsonl, self.docstrings)) != 1:
            raise ValueError("name exactly one of beir, jsonl, docstrings")
        return self

    @property
    def label(self) -> str:
        """A short name for logs and model cards."""
        if self.docstrings is not None:
            return "docstrings"
        path = self.beir if self.beir is not None else self.jsonl
        assert path is not None
        return path.stem if self.beir else path.parent.name or path.stem


class Scratch(_Section):
    """A ModernBERT with random weights, and a tokenizer trained on the recipe's own data."""

    vocab_size: Positive = 10_240
    hidden_size: Positive = 256
    intermediate_size: Positive = 384
    num_hidden_layers: Positive = 4
    num_attention_heads: Positive = 4


class EncoderSettings(_Section):
    """How texts become vectors; lengths in tokens. Prefixes are a ColBERT's markers or a DPR's prompts."""

    query_length: Positive = 32
    document_length: Positive = 300
    query_prefix: str | None = None
    document_prefix: str | None = None
    width: Positive = 128
    query_expansion: bool = True
    pooling: Literal["cls", "mean"] = "mean"


class TrainingSettings(_Section):
    """How long and how fast. ``document_length`` shortens documents in training only."""

    batch_size: Positive = 16
    epochs: Annotated[float, Field(gt=0)] = 1
    max_steps: Positive | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 8e-5
    warmup: Fraction = 0.05
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    temperature: Annotated[float, Field(gt=0)] = 1.0
    document_length: Positive | None = None
    mini_batch_size: Positive | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    weights_dtype: Literal["fp32", "fp16"] = "fp32"
    seed: int = 42


class Recipe(_Section):
    """One experiment. Start from ``base`` (a checkpoint) or from ``scratch``, not both.

    ``evaluate`` names BEIR folders that the finished model is measured on, for its card. Paths are relative
    to ``data_root``.
    """

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    kind: Literal["colbert", "dense"]
    base: str | None = None
    scratch: Scratch | None = None
    encoder: EncoderSettings = EncoderSettings()
    data_root: Path = Path()
    data: Annotated[tuple[Source, ...], Field(min_length=1)]
    evaluate: tuple[Path, ...] = ()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _one_start(self) -> "Recipe":
        if (self.base is None) == (self.scratch is None):
            raise ValueError("name exactly one of base (a checkpoint) and scratch (random weights)")
        return self

    @staticmethod
    def load(path: Path, overrides: Sequence[str] = ()) -> "Recipe":
        """Read a recipe; ``overrides`` are ``key.key=value`` with YAML values.

        Raises FlatcoatError naming the file, the key and what was wanted.
        """
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise FlatcoatError(f"recipe {path} cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise FlatcoatError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(values, dict):
            raise FlatcoatError(f"recipe {path} holds no keys: name, kind and data are needed")
        for override in overrides:
            _override(values, override)
        try:
            return Recipe.model_validate(values)
        except ValidationError as error:
            raise FlatcoatError(f"recipe {path}: {_explain(error)}") from None


def _override(values: dict[str, Any], override: str) -> None:
    path, found, value = override.partition("=")
    if not found or not path:
        raise FlatcoatError(f"--set {override!r}: key=value is wanted, as in training.batch_size=64")
    *parents, last = path.split(".")
    section: Any = values
    for key in parents:
        if isinstance(section, dict):
            section = section.setdefault(key, {})
        elif isinstance(section, list) and key.isdigit() and int(key) < len(section):
            section = section[int(key)]
        else:
            raise FlatcoatError(f"--set {override!r}: there is nothing at {key}")
    if not isinstance(section, dict):
        raise FlatcoatError(f"--set {override!r}: name a key, as in training.batch_size or data.0.max_pairs")
    try:
        section[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise FlatcoatError(f"--set {override!r} is not YAML: {' '.join(str(error).split())}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    location = ".".join(map(str, first["loc"])) or "the recipe"
    if first["type"] != "extra_forbidden":
        return f"{location}: {first['msg'].removeprefix('Value error, ')}"
    known = list(_section_at(first["loc"][:-1]).model_fields)
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
    return f"unknown key {location}; {hint}"


def _section_at(location: Sequence[int | str]) -> type[_Section]:
    section: type[_Section] = Recipe
    for key in location:
        if isinstance(key, str):
            section = _section_in(section.model_fields[key].annotation) or section
    return section


def _section_in(annotation: Any) -> type[_Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, _Section):
        return annotation
    return next(filter(None, map(_section_in, get_args(annotation))), None)
