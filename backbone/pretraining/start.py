"""What a run begins with: its tokenizer, its shards, its model and what trains it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from flatcoat.atomic_files import atomic_write
from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.heads import MaskedLanguageModel
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.presets import preset
from flatcoat.backbone.tiling import tile
from flatcoat.errors import ConflictError, DataError, NotFoundError
from flatcoat.hub import model_error

from .distillation import DistilledModel, LogitDivergence, VectorDivergence
from .objectives import MaskedLanguageModelling
from .replaced_tokens import ReplacedTokenDetection
from .settings import (
    Distillation,
    ModelSettings,
    PretrainingSettings,
    ReplacedTokens,
    TextSource,
    TokenizerSettings,
)
from .shards import Shards, write_shards
from .texts import read_texts, source_files
from .tokenizer import train_byte_level_bpe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

OnProgress = Callable[[str], None]


def prepare_tokenizer(
    settings: PretrainingSettings, folder: Path, *, on_progress: OnProgress = lambda what: None
) -> "PreTrainedTokenizerFast":
    """The tokenizer of a run, kept in ``folder``: read there, or the base's, or trained on the run's text.

    Raises DataError for a tokenizer without the tokens that masked language modelling needs.
    """
    if not folder.exists():
        named = settings.base or (settings.tokenizer.base if settings.tokenizer else None)
        if named is not None:
            tokenizer = load_tokenizer(named)
        else:
            on_progress("training the tokenizer")
            chosen = settings.tokenizer or TokenizerSettings()
            texts = (text for source in settings.data for text in read_texts(source, settings.data_root))
            tokenizer = train_byte_level_bpe(texts, chosen.vocab_size, unused=chosen.unused)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as unfinished:
            tokenizer.save_pretrained(str(unfinished))
    return load_tokenizer(str(folder))


def load_tokenizer(name: str) -> "PreTrainedTokenizerFast":
    """The fast tokenizer of a checkpoint. Raises NotFoundError where there is none, DataError as above."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        if Path(name).is_dir():
            raise NotFoundError(f"{name} has no tokenizer that transformers loads") from error
        raise model_error(name, error) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise DataError(f"{name} has no fast tokenizer (tokenizer.json): convert it with transformers")
    for token in ("cls_token_id", "sep_token_id", "mask_token_id", "pad_token_id"):
        if not isinstance(getattr(tokenizer, token), int):
            raise DataError(f"the tokenizer of {name} has no {token.removesuffix('_id')}: it cannot mask")
    return tokenizer


def prepare_shards(
    sources: Sequence[TextSource],
    tokenizer: "PreTrainedTokenizerFast",
    *,
    root: Path,
    folder: Path,
    on_progress: OnProgress = lambda what: None,
) -> list[Shards]:
    """The shards of each source, in folders named by what they are made of; those that exist are read.

    Raises as ``write_shards`` and ``read_texts`` do.
    """
    vocabulary = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    prepared = []
    for source in sources:
        made_of = source.model_dump(mode="json", exclude={"weight", "licence"})
        files = [(file.name, file.stat().st_size) for file in source_files(source, root)]
        fingerprint = hashlib.sha256(json.dumps([vocabulary, made_of, files]).encode()).hexdigest()

        def show(tokens: int, label: str = source.label) -> None:
            on_progress(f"tokenising {label}: {tokens:,} tokens")

        place = folder / f"{source.label}-{fingerprint[:12]}"
        texts = read_texts(source, root)
        prepared.append(write_shards(texts, tokenizer, place, fingerprint=fingerprint, on_progress=show))
    return prepared


def build_model(settings: PretrainingSettings, tokenizer: "PreTrainedTokenizerFast") -> MaskedLanguageModel:
    """The masked language model before training, in float32: a checkpoint, random weights or tiled ones.

    Raises NotFoundError and DataError for a checkpoint that cannot be read, UsageError for sizes that do not
    fit together.
    """
    torch.manual_seed(settings.seed)
    longest = _longest(settings)
    if settings.base is not None:
        model = MaskedLanguageModel.from_pretrained(settings.base, torch.float32)
        config = replace(
            model.config, max_position_embeddings=max(longest, model.config.max_position_embeddings)
        )
        if config.positions == "absolute" and config != model.config:
            raise DataError(f"{settings.base} has {model.config.longest} positions: shorten the phases")
        model.config = model.model.config = config
        return model
    assert settings.model is not None
    config = _new_config(settings.model, tokenizer, longest)
    if settings.model.tiled is None:
        return MaskedLanguageModel(config)
    return tile(MaskedLanguageModel.from_pretrained(settings.model.tiled, torch.float32), config)


def _longest(settings: PretrainingSettings) -> int:
    return max(phase.length for phase in settings.phases)


def _new_config(
    settings: ModelSettings, tokenizer: "PreTrainedTokenizerFast", longest: int
) -> ModernBertConfig:
    changes = settings.model_dump(exclude={"preset", "tiled"}, exclude_none=True)
    ids = {name: getattr(tokenizer, f"{name}_token_id") for name in ("pad", "cls", "sep")}
    changes |= {f"{name}_token_id": number for name, number in ids.items()}
    changes |= {"bos_token_id": ids["cls"], "eos_token_id": ids["sep"]}
    return preset(settings.preset, **changes, vocab_size=len(tokenizer), max_position_embeddings=longest)


def build_objective(
    settings: PretrainingSettings, tokenizer: "PreTrainedTokenizerFast"
) -> MaskedLanguageModelling | DistilledModel | ReplacedTokenDetection:
    """What the recipe's objective trains, around its model. Raises as ``build_model`` does.

    A teacher has the run's tokenizer, else ConflictError, and positions for every phase, else DataError.
    """
    model = build_model(settings, tokenizer)
    objective = settings.objective
    if isinstance(objective, ReplacedTokens):
        return ReplacedTokenDetection(
            model.model, generator_share=objective.generator, weight=objective.weight
        )
    if isinstance(objective, Distillation):
        divergence = _divergence(objective, model.config.hidden_size, tokenizer, longest=_longest(settings))
        return DistilledModel(model, divergence, weight=objective.weight)
    return MaskedLanguageModelling(model)


def _divergence(
    settings: Distillation, width: int, tokenizer: "PreTrainedTokenizerFast", *, longest: int
) -> LogitDivergence | VectorDivergence:
    if load_tokenizer(settings.teacher).get_vocab() != tokenizer.get_vocab():
        raise ConflictError(
            f"the teacher {settings.teacher} has another tokenizer: set tokenizer.base to {settings.teacher}"
        )
    of_logits = settings.match == "logits"
    teacher = (MaskedLanguageModel if of_logits else ModernBert).from_pretrained(
        settings.teacher, torch.float32
    )
    if teacher.config.positions == "absolute" and teacher.config.longest < longest:
        raise DataError(
            f"the teacher {settings.teacher} has {teacher.config.longest} positions: shorten the phases"
        )
    if isinstance(teacher, MaskedLanguageModel):
        return LogitDivergence(teacher, temperature=settings.temperature)
    return VectorDivergence(teacher, width, sentences=settings.match == "sentences")
