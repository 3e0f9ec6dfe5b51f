"""How a late-interaction checkpoint makes tokens of texts, in whichever of three formats its files say it.

PyLate says it in config_sentence_transformers.json, Stanford's ColBERT in artifact.metadata, and the
MultiVectorEncoder of sentence-transformers (from release 6 on) in its prompts, in the settings of its
transformer and in those of its MultiVectorMask. All become PyLate's names here:

query_prefix, document_prefix   A token after the first one (CLS); of a MultiVectorEncoder, text before.
query_length, document_length   Tokens at which texts are truncated; None: as many as the model reads.
do_query_expansion              Whether queries are filled up with MASK to query_length.
attend_to_expansion_tokens      Whether the tokens of the query attend to those.
skiplist_words                  Tokens of documents that have no vector.
similarity                      "maxsim", or "meanmaxsim": the same over the number of query tokens, which
                                ranks the documents of a query alike.
layout                          "pylate", "stanford" or "multi-vector".
"""

import string
from pathlib import PurePosixPath
from typing import Any

from flatcoat.errors import DataError

from .checkpoint_files import Find, read_json

MULTI_VECTOR = "MultiVectorEncoder"
_SIMILARITIES = ("maxsim", "meanmaxsim")
_LENGTH = 32
"""Tokens of an expanded query where the checkpoint does not say: ColBERT's."""

DEFAULTS: dict[str, Any] = {
    "query_prefix": "[Q] ",
    "document_prefix": "[D] ",
    "query_length": _LENGTH,
    "document_length": 180,
    "do_query_expansion": True,
    "attend_to_expansion_tokens": False,
    "skiplist_words": list(string.punctuation),
    "similarity": "maxsim",
    "layout": "pylate",
}
"""PyLate's, for what a checkpoint does not say."""


def late_settings(find: Find) -> dict[str, Any]:
    """The settings of a checkpoint as it says them, those that it does not say left out or None.

    Raises DataError for a file that is no JSON, and for settings that only the checkpoint's library has.
    """
    if is_stanford(find):
        return _stanford(find)
    settings = _object(find, "config_sentence_transformers.json")
    if settings.get("model_type") == MULTI_VECTOR:
        return _multi_vector(find, settings)
    return settings | {"similarity": "maxsim", "layout": "pylate"}


def is_late(find: Find) -> bool:
    """Whether the files of a checkpoint say that it is a late-interaction model."""
    settings = _object(find, "config_sentence_transformers.json")
    named = settings.get("model_type") in ("ColBERT", MULTI_VECTOR)
    return named or settings.get("similarity_fn_name") == "MaxSim" or is_stanford(find)


def is_stanford(find: Find) -> bool:
    """Whether the files are in the format of Stanford's ColBERT, which other libraries have not rewritten."""
    if find("config_sentence_transformers.json") is not None:
        return False
    named = _object(find, "config.json").get("architectures")
    return isinstance(named, list) and "HF_ColBERT" in named


def _stanford(find: Find) -> dict[str, Any]:
    said = _object(find, "artifact.metadata")
    is_skipped = said.get("mask_punctuation", True)
    return {
        "query_prefix": said.get("query_token_id") or "[unused0]",
        "document_prefix": said.get("doc_token_id") or "[unused1]",
        "query_length": said.get("query_maxlen", DEFAULTS["query_length"]),
        "document_length": said.get("doc_maxlen", DEFAULTS["document_length"]),
        "do_query_expansion": True,
        "attend_to_expansion_tokens": said.get("attend_to_mask_tokens", False),
        "skiplist_words": DEFAULTS["skiplist_words"] if is_skipped else [],
        "similarity": "maxsim",
        "layout": "stanford",
    }


def _multi_vector(find: Find, settings: dict[str, Any]) -> dict[str, Any]:
    transformer = _object(find, "sentence_bert_config.json")
    expansion = _expansion(transformer)
    prompts = settings.get("prompts") or {}
    _require(isinstance(prompts, dict), f"its prompts are {prompts!r:.60}")
    similarity = settings.get("similarity_fn_name") or "maxsim"
    _require(similarity in _SIMILARITIES, f"its similarity_fn_name is {similarity!r:.60}")
    default = prompts.get(str(settings.get("default_prompt_name")))
    named = [prompts[name] for name in ("document", "passage", "corpus") if name in prompts]
    return {
        "query_prefix": prompts.get("query", default) or "",
        "document_prefix": (named[0] if named else default) or "",
        "query_length": expansion["length"] if expansion else transformer.get("query_length"),
        "document_length": transformer.get("document_length"),
        "do_query_expansion": bool(expansion),
        "attend_to_expansion_tokens": bool(expansion.get("attend")),
        "skiplist_words": _skipped(find),
        "similarity": similarity,
        "layout": "multi-vector",
    }


def _expansion(transformer: dict[str, Any]) -> dict[str, Any]:
    """The query expansion of a MultiVectorEncoder, {} for none; DataError for one that PyLate has not."""
    expansion = transformer.get("query_expansion") or {}
    _require(isinstance(expansion, dict), f"its query_expansion is {expansion!r:.60}")
    strategy, token = expansion.get("strategy", "fixed"), expansion.get("token")
    _require(strategy == "fixed", f"its query expansion has the strategy {strategy!r:.60}")
    _require(token is None, f"it expands queries by the token {token!r:.60}")
    _require(not expansion or "length" in expansion, "its query expansion has no length")
    return expansion


def _skipped(find: Find) -> Any:
    """The skiplist of a MultiVectorEncoder, in the folder of its MultiVectorMask."""
    listed = find("modules.json")
    modules = [] if listed is None else read_json(listed, list)
    for module in modules:
        if isinstance(module, dict) and str(module.get("type")).endswith(".MultiVectorMask"):
            path = PurePosixPath(str(module.get("path")))
            mask = _object(find, str(path / "config.json")) if len(path.parts) == 1 else {}
            tasks = mask.get("skiplist_tasks", ["document"])
            _require(tasks == ["document"], f"its skiplist is for {tasks!r:.60}")
            _require(not mask.get("keep_only_token_ids"), "it keeps only some tokens (keep_only_token_ids)")
            return mask.get("skiplist_words") or []
    return []


def _object(find: Find, name: str) -> dict[str, Any]:
    path = find(name)
    return {} if path is None else read_json(path, dict)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise DataError(otherwise)
