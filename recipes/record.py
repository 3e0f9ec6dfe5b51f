"""What a run leaves beside its checkpoint: recipe, fingerprints of the data, scores, curves, model card."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flatcoat import __version__
from flatcoat.atomic_files import atomic_write_text
from flatcoat.errors import ConflictError
from flatcoat.eval.records import versions as package_versions
from flatcoat.retrieval.data.examples import PLACE
from flatcoat.retrieval.encoders.how_it_runs import how_it_runs

from .card import draw_curves, model_card
from .schema import Recipe

if TYPE_CHECKING:
    from datasets import Dataset

    from flatcoat.retrieval.training.train import DevScores, Point, TrainingLog

_PACKAGES = ("torch", "transformers", "sentence-transformers", "pylate")
_START, _RECORD = "run.json", "training.json"


@dataclass(frozen=True)
class RunStart:
    """Recipe and data of a run, written before its first step as ``run.json``: to resume, they must be equal.

    ``pairs`` counts rows by source; ``sha256`` fingerprints their texts and scores, in order.
    """

    recipe: dict[str, Any]
    pairs: dict[str, int]
    sha256: dict[str, str]
    versions: dict[str, str]

    @staticmethod
    def of(recipe: Recipe, sources: "Mapping[str, Dataset]") -> "RunStart":
        # The root differs between machines; the paths below it are the recipe's.
        settings = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"data_root"})
        return RunStart(
            recipe=settings,
            pairs={name: len(rows) for name, rows in sources.items()},
            sha256={name: fingerprint(rows) for name, rows in sources.items()},
            versions={"flatcoat": __version__} | package_versions(_PACKAGES),
        )

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a run has started in ``folder``."""
        return (folder / _START).is_file()

    def write(self, folder: Path) -> None:
        """Write ``recipe.yaml``, and then ``run.json``, which marks the run as started."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.yaml").write_text(
            yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
        atomic_write_text(folder / _START, json.dumps(asdict(self), indent=1) + "\n")

    def check(self, folder: Path) -> None:
        """Raise ConflictError if the run in ``folder`` was started with another recipe or other data."""
        before = json.loads((folder / _START).read_text())
        for what, old, new in (
            ("recipe", before["recipe"], self.recipe),
            ("training data", before["sha256"], self.sha256),
        ):
            if old != new:
                changed = ", ".join(key for key in sorted({*old, *new}) if old.get(key) != new.get(key))
                raise ConflictError(
                    f"the {what} changed since the run in {folder} was started ({changed}): resume it with "
                    "what it had, or name another --output"
                )


@dataclass(frozen=True)
class RunRecord:
    """The results of a run, kept as ``training.json``; ``scores`` are rows as in ``flatcoat eval --json``."""

    pairs: dict[str, int]
    sha256: dict[str, str]
    versions: dict[str, str]
    steps: int
    best_step: int | None
    seconds: float
    cpu_seconds: float
    scores: list[dict[str, Any]]
    dev: "list[DevScores]" = field(default_factory=list)
    learning_rates: "list[Point]" = field(default_factory=list)
    losses: "list[Point]" = field(default_factory=list)

    @staticmethod
    def of(start: RunStart, log: "TrainingLog", *, scores: list[dict[str, Any]]) -> "RunRecord":
        return RunRecord(start.pairs, start.sha256, start.versions, scores=scores, **asdict(log))

    def write(self, recipe: Recipe, folder: Path) -> None:
        """Write the curves, the card (``README.md``), and ``training.json``, which ends the run."""
        values = asdict(self)
        if self.losses:
            draw_curves(
                self.losses, self.learning_rates, dev=self.dev, title=recipe.name, file=folder / "curves.png"
            )
        card = model_card(recipe, values, backbone=how_it_runs(str(folder)).backbone)
        (folder / "README.md").write_text(card, encoding="utf-8")
        atomic_write_text(folder / _RECORD, json.dumps(values) + "\n")


def is_finished(folder: Path) -> bool:
    """Whether the run in ``folder`` has finished."""
    return (folder / _RECORD).is_file()


def read_record(folder: Path) -> dict[str, Any]:
    """The values of a finished run's RunRecord; points of curves are lists, as in JSON."""
    return json.loads((folder / _RECORD).read_text())


def fingerprint(rows: "Dataset") -> str:
    """SHA-256 of a data set's column names and values in order, its column of places left out."""
    names = [name for name in rows.column_names if name != PLACE]
    digest = hashlib.sha256(json.dumps(names).encode())
    for batch in rows.select_columns(names).iter(1_000):
        for row in zip(*(batch[name] for name in names), strict=True):  # type: ignore[call-overload]
            digest.update(json.dumps(row).encode())
    return digest.hexdigest()
