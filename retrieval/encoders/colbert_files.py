"""Writing late-interaction checkpoints in PyLate's format, and in that of MultiVectorEncoder.

Written by hand rather than by the library that loaded the model, so that any release of it writes the same
files, which PyLate, sentence-transformers 6 and later, transformers and flatcoat load with equal vectors.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flatcoat.atomic_files import readable_weights
from flatcoat.errors import UsageError

_TRANSFORMER = "sentence_transformers.models.Transformer"
_DENSE = "pylate.models.Dense.Dense"


def write_pylate(model: Any, folder: Path) -> None:
    """Write a ``ColbertModel`` in PyLate's format, which MultiVectorEncoder reads too.

    Raises UsageError for prefixes that are text before a text, which that format has not.
    """
    if model.prefixes_are_text:
        raise UsageError(
            "the model's prefixes are text, which PyLate's format cannot say: name the layout multi-vector"
        )
    longest = model.document_length - (model.document_prefix_id is not None)
    kinds = [_DENSE] * (len(model) - 1)
    _write_parts(model, folder, kinds=kinds, transformer={"max_seq_length": longest, "do_lower_case": False})
    settings = {
        "model_type": "ColBERT",
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "MaxSim",
        "query_prefix": model.query_prefix,
        "document_prefix": model.document_prefix,
        "query_length": model.query_length,
        "document_length": model.document_length,
        "attend_to_expansion_tokens": model.attend_to_expansion_tokens,
        "skiplist_words": model.skiplist_words,
        "do_query_expansion": model.do_query_expansion,
    }
    _write_json(folder / "config_sentence_transformers.json", settings | {"__version__": _versions()})


def write_multi_vector(model: Any, folder: Path) -> None:
    """Write a ``ColbertModel`` in the format of sentence-transformers' MultiVectorEncoder.

    Prefixes become prompts. They are tokens of the tokenizer, so that as text they are the same tokens.
    """
    base = "sentence_transformers.base.modules"
    mask = "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"
    kinds = [*[f"{base}.dense.Dense"] * (len(model) - 1), mask, f"{base}.normalize.Normalize"]
    expansion = {
        "strategy": "fixed",
        "attend": model.attend_to_expansion_tokens,
        "token": None,
        "length": model.query_length,
    }
    lengths = {"document_length": model.document_length}
    lengths |= (
        {"query_expansion": expansion} if model.do_query_expansion else {"query_length": model.query_length}
    )
    _write_parts(model, folder, kinds=kinds, transformer=_TEXTS | lengths)
    place = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    for path in folder.glob("*_Dense/config.json"):
        _write_json(path, json.loads(path.read_text()) | place)
    skipped = {"skiplist_words": model.skiplist_words, "skiplist_tasks": ["document"]}
    count = len(model)
    _write_json(folder / f"{count}_MultiVectorMask" / "config.json", skipped | {"keep_only_token_ids": None})
    _write_json(folder / f"{count + 1}_Normalize" / "config.json", place)
    settings = {
        "model_type": "MultiVectorEncoder",
        "prompts": {"query": model.query_prefix, "document": model.document_prefix},
        "default_prompt_name": None,
        "similarity_fn_name": model.similarity_name,
    }
    _write_json(folder / "config_sentence_transformers.json", settings | {"__version__": _versions()})


_TEXTS: dict[str, Any] = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}


def _write_parts(model: Any, folder: Path, *, kinds: Sequence[str], transformer: Mapping[str, Any]) -> None:
    """The backbone with its tokenizer, the projections, and modules.json with the modules' classes."""
    folder.mkdir(parents=True, exist_ok=True)
    first, *projections = list(model)
    backbone: Any = first.auto_model
    backbone.save_pretrained(str(folder))
    tokenizer: Any = model.tokenizer
    tokenizer.save_pretrained(str(folder))
    _write_json(folder / "sentence_bert_config.json", transformer)
    for number, projection in enumerate(projections, start=1):
        part: Any = projection
        part.save(folder / f"{number}_Dense")
    readable_weights(folder)
    paths = ["", *(f"{number}_{kind.rpartition('.')[2]}" for number, kind in enumerate(kinds, start=1))]
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": kind}
        for number, (path, kind) in enumerate(zip(paths, [_TRANSFORMER, *kinds], strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(listed, indent=2) + "\n")


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")


def _versions() -> dict[str, str]:
    names = ("sentence_transformers", "transformers")
    return {name: version(name.replace("_", "-")) for name in names} | {"pytorch": version("torch")}
