"""The model card that a run writes beside its checkpoint, in the hub's Markdown with YAML front matter."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from .schema import Recipe

_MEASURES = {"ndcg@10": "nDCG@10", "map": "MAP", "recall@100": "Recall@100", "mrr@10": "MRR@10"}


def model_card(recipe: Recipe, record: Mapping[str, Any]) -> str:
    """What the model is, what it was trained on and how, how well it does, how to use it.

    ``record`` holds the values of a RunRecord.
    """
    late = recipe.kind == "colbert"
    library = "PyLate" if late else "sentence-transformers"
    front = {
        "library_name": library,
        "pipeline_tag": "sentence-similarity",
        "tags": ["modernbert", "retrieval", "ColBERT" if late else "DPR", "flatcoat"],
    }
    start = f"`{recipe.base}`" if recipe.base else "random weights and a tokenizer trained on the same text"
    vectors = f"one {recipe.encoder.width}-component vector a token" if late else "one vector a text"
    return f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {recipe.name}

{recipe.description.strip() or "A retriever trained with flatcoat."}

- Kind: {"late interaction (ColBERT)" if late else "single vector (DPR)"}, {vectors}, on a ModernBERT backbone
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
    last = f"{record['losses'][-1][1]:.3f}" if record["losses"] else "not logged"
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
        + " | ".join(f"{100 * row[measure]:.1f}" for measure in _MEASURES)
        + " |"
        for row in rows
    )
    return f"""
## Scores

Times 100, exact search, every judged query.

| data set | system | {" | ".join(_MEASURES.values())} |
| --- | --- |{" --- |" * len(_MEASURES)}
{table}
"""
