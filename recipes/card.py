"""The model card that a run writes beside its checkpoint, in the hub's Markdown with YAML front matter."""

from collections.abc import Mapping

import yaml

from ..retrieval.training import TrainingLog
from .schema import Recipe


def model_card(
    recipe: Recipe, pairs: Mapping[str, int], log: TrainingLog, versions: Mapping[str, str]
) -> str:
    """What the model is, what it was trained on and how, and how to use it."""
    late = recipe.kind == "colbert"
    library = "PyLate" if late else "sentence-transformers"
    front = {
        "library_name": library,
        "pipeline_tag": "sentence-similarity",
        "tags": ["modernbert", "retrieval", "ColBERT" if late else "DPR", "flatcoat"],
    }
    start = f"`{recipe.base}`" if recipe.base else "random weights and a tokenizer trained on the same text"
    rows = "\n".join(f"| {name} | {count:,} |" for name, count in pairs.items())
    last = f"{log.losses[-1][1]:.3f}" if log.losses else "not logged"
    made_with = ", ".join(f"{name} {number}" for name, number in versions.items())
    vectors = f"one {recipe.encoder.width}-component vector a token" if late else "one vector a text"
    return f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {recipe.name}

{recipe.description.strip() or "A retriever trained with flatcoat."}

- Kind: {"late interaction (ColBERT)" if late else "single vector (DPR)"}, {vectors}, on a ModernBERT backbone
- Started from {start}
- Query length {recipe.encoder.query_length}, document length {recipe.encoder.document_length} tokens

## Training

{log.steps:,} steps of {recipe.training.batch_size} pairs, learning rate {recipe.training.learning_rate:g},
{log.seconds / 60:.0f} minutes, last logged loss {last}. `recipe.yaml` beside this page is the whole recipe.
Made with {made_with}.

| pairs from | count |
| --- | --- |
{rows}

## Use

```python
from flatcoat import Retriever

retriever = Retriever.create("my.index", model="path/to/this/folder")
```

{library} loads the folder as well, with the same outputs.
"""
