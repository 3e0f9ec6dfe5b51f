"""The model that a recipe starts from: a checkpoint, or a new tokenizer and random weights."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatcoat.atomic_files import atomic_write
from flatcoat.retrieval.encoders.checkpoint_files import loading, require_data_only
from flatcoat.retrieval.encoders.int8_files import in_full
from flatcoat.retrieval.encoders.load import model_path
from flatcoat.retrieval.training.callbacks import process_state

from .schema import Recipe, Scratch

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer


_SAMPLED = 16
"""Documents per source whose token vectors decide the principal components."""


def build_model(
    recipe: Recipe, sources: "Mapping[str, Dataset]", *, scratch_folder: Path, unpad: bool = True
) -> "SentenceTransformer":
    """The model before training.

    A model from scratch is written to ``scratch_folder``, or read there if a run before has written it.
    Without ``unpad`` a ModernBERT runs through transformers, padded. Raises NotFoundError for a base that
    cannot be loaded, and UsageError for one that could run code unless the user named it himself.
    """
    import torch

    from flatcoat.retrieval.encoders.backbone import unpad_backbone

    base = None if recipe.base is None else model_path(recipe.base)
    if recipe.scratch is not None:
        if process_state().is_main_process and not scratch_folder.exists():
            start_from_scratch(
                recipe.scratch, _texts(sources), folder=scratch_folder, seed=recipe.training.seed
            )
        process_state().wait_for_everyone()
        base = scratch_folder
    assert base is not None
    # Even a checkpoint gets a new projection, of random weights.
    torch.manual_seed(recipe.training.seed)
    with loading(base), in_full(base) as full:
        if not recipe.base_is_trusted:
            require_data_only(lambda file: _find(str(full), file), str(base))
        model = (_colbert_model if recipe.kind == "colbert" else _dense_model)(str(full), recipe)
    if recipe.encoder.split_identifiers:
        _split_identifiers(model)
    if unpad:
        unpad_backbone(model)
    if recipe.kind == "colbert" and recipe.encoder.projection == "principal":
        _project_on_principal_components(model, sources)
    return model


@contextmanager
def truncated_documents(model: "SentenceTransformer", length: int) -> Iterator[None]:
    """Within the context, the model truncates documents at ``length`` tokens."""
    name = "document_length" if hasattr(model, "document_length") else "max_seq_length"
    before = getattr(model, name)
    setattr(model, name, length)
    try:
        yield
    finally:
        setattr(model, name, before)


def _find(base: str, file: str) -> Path | None:
    """A file of a checkpoint, from the hub where that has it."""
    from transformers.utils.hub import cached_file

    found = cached_file(base, file, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


def _colbert_model(base: str, recipe: Recipe) -> "SentenceTransformer":
    from flatcoat.retrieval.encoders.colbert_model import ColbertModel

    settings = recipe.encoder
    given = {
        "query_prefix": settings.query_prefix,
        "document_prefix": settings.document_prefix,
        "query_length": settings.query_length,
        "document_length": settings.document_length,
        "do_query_expansion": settings.query_expansion,
    }
    return ColbertModel(base, width=settings.width, settings=given)


def _dense_model(base: str, recipe: Recipe) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer

    settings = recipe.encoder
    # Without an answer transformers would ask on the terminal.
    no_code: dict[str, Any] = {"trust_remote_code": False}
    transformer = Transformer(
        base,
        max_seq_length=settings.document_length,
        model_args=no_code,
        tokenizer_args={**no_code},
        config_args=no_code,
    )
    pooling = Pooling(transformer.auto_model.config.hidden_size, pooling_mode=settings.pooling)
    prompts = {"query": settings.query_prefix or "", "document": settings.document_prefix or ""}
    return SentenceTransformer(modules=[transformer, pooling, Normalize()], prompts=prompts)


def _split_identifiers(model: "SentenceTransformer") -> None:
    from flatcoat.retrieval.encoders.identifiers import splitting

    first: Any = model[0]
    # sentence-transformers 6 has it by the first name, earlier releases by the second.
    held = "processor" if hasattr(first, "processor") else "tokenizer"
    setattr(first, held, splitting(first.tokenizer))


def _project_on_principal_components(model: "SentenceTransformer", sources: "Mapping[str, Dataset]") -> None:
    """Set the projection to the directions that hold most of the token vectors of some documents.

    Vectors are not centred: inner products are to be kept, not distances from the mean.
    """
    import torch
    from torch.nn.functional import normalize

    last: Any = model[-1]
    projection = last.linear.weight
    moments_DD = torch.zeros(projection.shape[1], projection.shape[1], dtype=torch.float64)
    with torch.inference_mode():
        for rows in sources.values():
            texts = rows[:_SAMPLED]["document"]
            for start in range(0, len(texts), 16):
                features: Any = model.tokenize(texts[start : start + 16], is_query=False)  # type: ignore[call-arg]
                real_NL = features["attention_mask"].bool()
                vectors_TD = normalize(model[0](features)["token_embeddings"][real_NL].double(), dim=-1)
                moments_DD += vectors_TD.T @ vectors_TD
        directions_DD = torch.linalg.eigh(moments_DD).eigenvectors.flip(1)
        projection.copy_(directions_DD[:, : len(projection)].T)


def _texts(sources: "Mapping[str, Dataset]") -> Iterable[str]:
    for rows in sources.values():
        for batch in rows.select_columns(["query", "document"]).iter(1_000):
            yield from chain.from_iterable(zip(batch["query"], batch["document"], strict=True))  # type: ignore[call-overload]


def start_from_scratch(shape: Scratch, texts: Iterable[str], *, folder: Path, seed: int) -> None:
    """Write a checkpoint of random weights with a tokenizer trained on the texts."""
    import torch

    from flatcoat.backbone.config import ModernBertConfig
    from flatcoat.backbone.model import ModernBert
    from flatcoat.backbone.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(texts, shape.vocab_size)
    pad, cls, sep = (tokenizer.get_vocab()[token] for token in ("[PAD]", "[CLS]", "[SEP]"))
    arguments: dict[str, Any] = shape.model_dump() | {
        "vocab_size": len(tokenizer),
        "pad_token_id": pad,
        "cls_token_id": cls,
        "bos_token_id": cls,
        "sep_token_id": sep,
        "eos_token_id": sep,
    }
    torch.manual_seed(seed)
    with atomic_write(folder) as unfinished:
        ModernBert(ModernBertConfig(**arguments)).save_pretrained(unfinished)
        tokenizer.save_pretrained(str(unfinished))
