"""The model card of a run, in the hub's Markdown with YAML front matter, and the plot of its curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from flatcoat.eval.metrics import MEASURES, title_of

from .schema import Recipe
from .scoring import DEV_MEASURE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flatcoat.retrieval.training.train import DevScores, Point

_PALE, _DARK = "#9bb7d4", "#1f4e79"


def model_card(recipe: Recipe, record: Mapping[str, Any], *, backbone: str) -> str:
    """Markdown: what the model is, its training data and settings, its scores, how to use it.

    ``record`` holds the values of a RunRecord; ``backbone`` is the model type in transformers' words.
    """
    late = recipe.kind == "colbert"
    library = "PyLate" if late else "sentence-transformers"
    front = {
        "library_name": library,
        "pipeline_tag": "sentence-similarity",
        "tags": [backbone, "retrieval", "ColBERT" if late else "DPR", "flatcoat"],
    }
    start = f"`{recipe.base}`" if recipe.base else "random weights and a tokenizer trained on the same text"
    vectors = f"one {recipe.encoder.width}-component vector per token" if late else "one vector per text"
    return f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {recipe.name}

{recipe.description.strip() or "A retriever trained with flatcoat."}

- Kind: {"late interaction (ColBERT)" if late else "single vector (DPR)"}, {vectors}, on {backbone}
- Started from {start}
- Query length {recipe.encoder.query_length}, document length {recipe.encoder.document_length} tokens

{_training(recipe, record)}{_scores(record["scores"])}
## Use

```python
from flatcoat import Retriever

retriever = Retriever.create("my.index", model="path/to/this/folder")
```

{library} loads the folder as well, with the same outputs.
"""


def _training(recipe: Recipe, record: Mapping[str, Any]) -> str:
    last = f"{record['losses'][-1].value:.3f}" if record["losses"] else "not logged"
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    licences = {name: source.licence for name, source in recipe.sources.items()}
    rows = "\n".join(
        f"| {name} | {count:,} | {licences.get(name, '')} |" for name, count in record["pairs"].items()
    )
    rate, minutes, processor = (
        recipe.training.learning_rate,
        record["seconds"] / 60,
        record["cpu_seconds"] / 60,
    )
    return f"""## Training

{record["steps"]:,} steps of {recipe.training.batch_size} pairs, learning rate {rate:g}, {minutes:.0f} minutes
({processor:.0f} processor minutes), last logged loss {last}.
`recipe.yaml` beside this page is the whole recipe. Made with {versions}.

| pairs from | count | licence of the text |
| --- | --- | --- |
{rows}
"""


def _scores(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    table = "\n".join(
        f"| {row['dataset']} ({row['split']}) | {row['system']} | "
        + " | ".join(f"{100 * row[measure]:.1f}" for measure in MEASURES)
        + " |"
        for row in rows
    )
    return f"""
## Scores

Times 100, over all judged queries: the model alone (exact search, documents cut at its length),
flatcoat's search (documents in passages, fused with BM25), and BM25 alone.

| data set | system | {" | ".join(map(title_of, MEASURES))} |
| --- | --- |{" --- |" * len(MEASURES)}
{table}
"""


def draw_curves(
    losses: "Sequence[Point]",
    learning_rates: "Sequence[Point]",
    *,
    dev: "Sequence[DevScores]",
    title: str,
    file: Path,
) -> None:
    """Write a PNG with one panel each for losses, learning rates and, if there are dev sets, their scores."""
    from matplotlib.figure import Figure

    panels = 3 if dev else 2
    figure = Figure(figsize=(8, 1.5 + 2.5 * panels), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True)
    axes[0].set(title=title)
    _draw_losses(axes[0], losses)
    axes[1].plot(*zip(*learning_rates, strict=True), color=_DARK)
    axes[1].set(ylabel="learning rate")
    if dev:
        steps = [point.step for point in dev]
        for name in dev[0].scores:
            axes[2].plot(steps, [point.scores[name] for point in dev], label=name)
        axes[2].set(ylabel=title_of(DEV_MEASURE))
        axes[2].legend(frameon=False)
    axes[-1].set(xlabel="optimiser step")
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def _draw_losses(axes: "Axes", losses: "Sequence[Point]") -> None:
    """The logged losses, and their moving average over a twentieth of the run."""
    steps, values = np.array(losses, dtype=float).reshape(-1, 2).T
    axes.plot(steps, values, color=_PALE, linewidth=1, label="logged")
    width = max(1, len(values) // 20)
    if len(values) >= 2 * width:
        smooth = np.convolve(values, np.full(width, 1 / width), mode="valid")
        axes.plot(steps[width - 1 :], smooth, color=_DARK, linewidth=2, label=f"mean of {width}")
        axes.legend(frameon=False)
    axes.set(ylabel="training loss")
