"""The schema of recipes. A recipe is one YAML file: a retriever, its training data and how it is trained.

An unknown key is an error that names the nearest known one. Defaults follow the paper (arXiv 2412.13663,
appendix E) where it states a value.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from flatcoat.retrieval.data.source import Positive, SomeName, SomePath, Source
from flatcoat.retrieval.training.settings import TrainingSettings

from .recipe_files import RecipeName, read_recipe


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
    the principal components of a sample of the training documents. ``split_identifiers`` has
    parseHttpResponse read as its words (``encoders.identifiers``), by the tokenizer that is saved too.
    """

    query_length: Positive = 32
    document_length: Positive = 300
    query_prefix: str | None = None
    document_prefix: str | None = None
    width: Positive = 128
    projection: Literal["random", "principal"] = "random"
    query_expansion: bool = True
    pooling: Literal["cls", "mean"] = "mean"
    split_identifiers: bool = False


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

    name: RecipeName
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
        recipe = read_recipe(Recipe, path, overrides)
        recipe._base_is_trusted = any(override.startswith("base=") for override in overrides)
        return recipe
