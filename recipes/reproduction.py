"""The page REPRODUCE.md: commands that measure every cell of the paper's table 1.

``python -m flatcoat.recipes.reproduction > recipes/REPRODUCE.md`` writes it. Its expected scores come from
``eval/published.py``, its recipes lie beside this file.
"""

from collections.abc import Iterator
from typing import NamedTuple

from flatcoat.eval.published import PUBLISHED

_SIZES = {"base": "ModernBERT-base", "large": "ModernBERT-large"}
_RATE = "--set training.learning_rate=1e-4"
_LARGE = f"--set base=answerdotai/ModernBERT-large {_RATE}"

_HEAD = """# Table 1 of the paper, cell by cell

Made by `python -m flatcoat.recipes.reproduction`; expected figures are those of Warner et al. 2024
(arXiv:2412.13663, table 1): nDCG@10 x 100, for GLUE the average over its tasks. Each command trains what it
needs, unless `runs/` has it already, and measures it. A measurement that was cut off goes on where it was;
one in `results/` is not made again. `flatcoat compare results` sets all beside the published figures.

Training takes a GPU. What the paper leaves open (tuning on MLDR, the length of code) is said in the recipes.
"""


class Cell(NamedTuple):
    """One score of the table and the command that measures it; names as in ``PUBLISHED``."""

    title: str
    system: str
    benchmark: str
    command: str

    @property
    def expected(self) -> float:
        """The paper's score, between 0 and 1."""
        (value,) = (
            row.value for row in PUBLISHED if (row.system, row.dataset) == (self.system, self.benchmark)
        )
        return value


def cells() -> Iterator[tuple[str, Cell]]:
    """Every cell with its model, base and large."""
    for size, model in _SIZES.items():
        large = size == "large"
        suffix = "-large" if large else ""
        dpr, colbert = _msmarco("dpr", suffix), _msmarco("colbert", suffix)
        longer = _tuned("dpr-mldr", suffix, f"--set base={dpr.run}{f' {_RATE}' if large else ''}")
        code, stack = (_tuned(name, suffix, _LARGE) for name in ("dpr-codesearchnet", "dpr-stackqa"))
        for cell in (
            Cell("DPR, BEIR", f"{model} DPR", "beir", dpr.measured_on("beir")),
            Cell(
                "DPR, MLDR out of domain", f"{model} DPR, not tuned on MLDR", "mldr", dpr.measured_on("mldr")
            ),
            Cell(
                "DPR, MLDR in domain",
                f"{model} DPR, tuned on MLDR",
                "mldr",
                f"{dpr.train} && {longer.measured_on('mldr')}",
            ),
            Cell("ColBERT, BEIR", f"{model} ColBERT", "beir", colbert.measured_on("beir")),
            Cell(
                "ColBERT, MLDR out of domain",
                f"{model} ColBERT, not tuned on MLDR",
                "mldr",
                colbert.measured_on("mldr"),
            ),
            Cell(
                "GLUE",
                model,
                "glue",
                f"flatcoat glue answerdotai/{model} --task mnli --output runs/glue{suffix} && "
                f"flatcoat glue answerdotai/{model} --from runs/glue{suffix}/mnli/seed-0 --seeds 5",
            ),
            Cell("CodeSearchNet", f"{model} DPR", "codesearchnet", code.measured_on("codesearchnet")),
            Cell("StackQA", f"{model} DPR", "stackqa", stack.measured_on("stackqa")),
        ):
            yield model, cell


class _Model(NamedTuple):
    """A model to train: its run folder, and the command that trains it unless the folder exists."""

    run: str
    train: str

    def measured_on(self, benchmark: str) -> str:
        return f"{self.train} && flatcoat eval {self.run} --no-bm25 --benchmark {benchmark} --output results"


def _msmarco(kind: str, suffix: str) -> _Model:
    return _recipe(f"{kind}-msmarco{suffix}", f"{kind}-msmarco{suffix}", "")


def _tuned(recipe: str, suffix: str, settings: str) -> _Model:
    large = settings if suffix or "base=runs" in settings else ""
    return _recipe(recipe, f"{recipe}{suffix}", f" {large}" if large else "")


def _recipe(recipe: str, run: str, settings: str) -> _Model:
    folder = f"runs/{run}"
    return _Model(folder, f"([ -d {folder} ] || flatcoat train {recipe}{settings} --output {folder})")


def page() -> str:
    """The whole page in Markdown."""
    parts = [_HEAD]
    for model in _SIZES.values():
        own = [cell for name, cell in cells() if name == model]
        blocks = [
            f"### {cell.title}: {100 * cell.expected:.1f}\n\n```sh\n{cell.command}\n```\n" for cell in own
        ]
        parts += [f"## {model}\n", *blocks]
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
