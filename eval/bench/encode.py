"""Encoding speed by the ModernBERT paper's efficiency protocol, all implementations in one run.

Four document sets of random token ids (arXiv 2412.13663, section 4.2): fixed and variable lengths, short and
long; or the corpus of a BEIR folder, in the tokens of the model. Tokens per second never count padding.
Implementations take turns in all precisions, so that a busy machine slows all alike; the median pass is
reported. Batches are sorted by length: with few documents a padded batch spans more lengths, and wastes more,
than with the protocol's 8192.

Axes: N documents, D width.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.environment import DTYPES, device_name, fast_precisions
from flatcoat.backbone.malloc import reuse_freed_memory
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.presets import preset
from flatcoat.errors import NotFoundError, UsageError
from flatcoat.indexing.reading.beir import BeirFolder
from flatcoat.retrieval.encoders.checkpoint_files import in_folder_or_hub

from . import OURS
from .encode_batches import Documents
from .encode_peers import (
    BOUND,
    DEFAULT,
    Implementation,
    inference,
    random_encoder,
    reference_encode,
    training,
    why_no_peer,
)
from .encode_timing import EncoderTiming, fits_in_memory, largest_batch, time_encoders

SETS = ("fixed-512", "variable-256", "fixed-8192", "variable-4096")
PROTOCOL_DOCUMENTS = 8192
SCALE = {"cpu": 0.001, "cuda": 0.05}
"""Fraction of the protocol's tokens, for minutes per run."""

FAITHFUL = 0.995
"""Cosine to transformers in float32 from which a faster precision counts as faithful."""

_FIRST_TOKEN = 5  # ids below are special
_COMPARED = 4  # documents whose vectors are compared with the reference


@dataclass(frozen=True, kw_only=True)
class SpeedRow:
    """One implementation on ``documents`` documents of a set; ``ratio_to_ours`` is within its precision.

    ``cosine`` is the mean cosine to transformers in float32. With random weights it shows that the arithmetic
    agrees, not the cost of rounding for a trained model. ``tokens_per_second`` is 0 where the device ran out
    of memory. ``max_batch``, on CUDA, is the largest number of documents that fit in one forward beside all
    weights. ``no_peer`` says why transformers is not among the implementations, if it is not; cosines are
    then to ours in float32.
    """

    set: str
    implementation: str
    precision: str
    tokens_per_second: float
    ratio_to_ours: float
    cosine: float | None
    documents: int
    task: str
    max_batch: int | None = None
    no_peer: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dict(vars(self))


class BestPrecision(NamedTuple):
    """Our fastest faithful precision on a set; ``speedup`` is over sentence-transformers' default."""

    set: str
    precision: str
    speedup: float


def bench_encoding(
    shape: str,
    sets: Sequence[str] = (),
    *,
    model: str | None = None,
    precisions: Sequence[str] = (),
    scale: float | None = None,
    passes: int = 3,
    train: bool = False,
    max_batch: bool = True,
    on_progress: Callable[[str], None] = lambda what: None,
) -> list[SpeedRow]:
    """Time every implementation on every set in every precision; ours first in each group.

    ``shape`` is base, large or a checkpoint's folder; ``model`` a checkpoint whose weights are taken too;
    ``sets`` default to those that the model reads, and may be BEIR folders where there is a ``model``, whose
    tokenizer is used; ``precisions`` default to the device's fast ones; ``scale`` is the fraction of the
    protocol's tokens (None: SCALE); ``train`` times training steps.
    Where transformers has no such model, ours is measured alone. Raises UsageError for an unknown set or
    precision, and a set with documents that are too long; NotFoundError for an unknown shape or model.

    >>> rows = bench_encoding("base", ["fixed-512"], scale=0.0005)  # doctest: +SKIP
    >>> rows[0].implementation  # doctest: +SKIP
    'flatcoat'
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precisions = _checked_precisions(precisions, device, train)
    loaded = None if model is None else ModernBert.from_pretrained(model, torch.float32).to(device)
    config = shape_config(shape) if loaded is None else loaded.config
    sets = _checked_sets(sets, config.longest)
    texts = _texts(sets, SCALE[device] if scale is None else scale, config, model)
    reuse_freed_memory()
    source = loaded or random_encoder(config, device)
    contenders = (training if train else inference)(source, precisions, device=device)
    reference = reference_encode(source, device)
    rows: list[SpeedRow] = []
    for name, sample in texts.items():
        encoders = {f"{name}: {one.name} in {one.precision}": one.encode for one in contenders}
        timings = time_encoders(encoders, sample, passes=passes, on_turn=on_progress)
        results = zip(contenders, timings.values(), strict=True)
        found = _rows(name, len(sample), results, reference(sample[:_COMPARED]))
        rows += [replace(row, no_peer=why_no_peer(config)) for row in found]
    if device == "cuda" and max_batch and not train:
        return _with_max_batches(rows, contenders, texts, on_progress)
    return rows


def known_precisions(device: str, train: bool = False) -> tuple[str, ...]:
    """The precisions to choose from on ``cpu`` or ``cuda``.

    >>> known_precisions("cpu")
    ('fp32', 'bf16', 'int8')
    """
    return (*DTYPES, "int8") if device == "cpu" and not train else tuple(DTYPES)


def _checked_precisions(precisions: Sequence[str], device: str, train: bool) -> Sequence[str]:
    known = known_precisions(device, train)
    if wrong := sorted(set(precisions) - set(known)):
        task = "training" if train else "inference"
        raise UsageError(f"no precision {wrong[0]} for {task} on {device}: known are {', '.join(known)}")
    fast = fast_precisions(torch.device(device))
    return list(dict.fromkeys(precisions)) or [name for name in known if name in fast]


def _checked_sets(sets: Sequence[str], longest: int) -> Sequence[str]:
    """The sets given, or all whose documents have at most ``longest`` tokens."""
    if not sets:
        return [name for name in SETS if _longest(name) <= longest]
    if too_long := [name for name in sets if not Path(name).is_dir() and _longest(name) > longest]:
        raise UsageError(
            f"{too_long[0]} has documents of {_longest(too_long[0])} tokens: the model reads {longest}"
        )
    return sets


def _longest(name: str) -> int:
    """The most tokens that a document of a set may have."""
    kind, length = _parsed(name)
    return length if kind == "fixed" else 2 * length


def documents(name: str, count: int, *, vocab_size: int) -> Documents:
    """``count`` documents of a set, named as in SETS; ids are drawn with the protocol's seed 42.

    ``fixed-N`` has N tokens per document, ``variable-N`` lengths normal around N, clipped to 32..2N.

    >>> [len(document) for document in documents("fixed-64", 3, vocab_size=100)]
    [64, 64, 64]
    """
    generator = np.random.default_rng(42)
    kind, length = _parsed(name)
    if kind == "fixed":
        lengths = np.full(count, length)
    else:
        drawn = generator.normal(length, length / 4, count).round().astype(int)
        lengths = drawn.clip(32, 2 * length)
    return [generator.integers(_FIRST_TOKEN, vocab_size, size).tolist() for size in lengths]


def document_count(name: str, scale: float) -> int:
    """The number of documents with about ``scale`` of the protocol's 8192 x 512 tokens."""
    return max(1, round(scale * PROTOCOL_DOCUMENTS * 512 / _parsed(name)[1]))


def corpus_documents(folder: Path, model: str, *, tokens: int, longest: int) -> Documents:
    """Documents of a BEIR folder with about ``tokens`` tokens together, from all over the corpus.

    They have the tokens of the model's tokenizer, at most ``longest`` each.
    """
    from tokenizers import Tokenizer

    file = in_folder_or_hub(model)("tokenizer.json")
    if file is None:
        raise NotFoundError(f"{model} has no tokenizer.json, which makes tokens of {folder}")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    texts = [document.text for document in BeirFolder(folder).documents()]
    found = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
    step = max(1, sum(map(len, found)) // max(1, tokens))
    return found[::step]


def _texts(
    sets: Sequence[str], scale: float, config: ModernBertConfig, model: str | None
) -> dict[str, Documents]:
    found: dict[str, Documents] = {}
    for name in dict.fromkeys(sets):
        if Path(name).is_dir():
            if model is None:
                raise UsageError(f"{name} is a corpus: name the --model whose tokenizer reads it")
            tokens = round(scale * PROTOCOL_DOCUMENTS * 512)
            found[name] = corpus_documents(Path(name), model, tokens=tokens, longest=config.longest)
        else:
            found[name] = documents(name, document_count(name, scale), vocab_size=config.vocab_size)
    return found


def _parsed(name: str) -> tuple[str, int]:
    kind, _, size = name.partition("-")
    if kind not in ("fixed", "variable") or not size.isdigit() or int(size) < 1:
        raise UsageError(f"no document set {name}: write {', '.join(SETS)} or another length")
    return kind, int(size)


def _rows(
    name: str, count: int, results: Iterable[tuple[Implementation, EncoderTiming]], expected_ND: Tensor
) -> Iterator[SpeedRow]:
    ours = 0.0
    for one, timing in results:
        speed = timing.tokens_per_second
        ours = speed if one.name == OURS else ours
        cosine = None
        if timing.vectors_ND is not None and one.name != BOUND:
            cosine = mean_cosine(timing.vectors_ND[: len(expected_ND)], expected_ND)
        yield SpeedRow(
            set=name,
            implementation=one.name,
            precision=one.precision,
            tokens_per_second=speed,
            ratio_to_ours=speed / ours if ours else 0.0,
            cosine=cosine,
            documents=count,
            task=one.task,
        )


def mean_cosine(actual_ND: Tensor, expected_ND: Tensor) -> float:
    """The mean cosine of two sets of vectors, row by row."""
    return float(nn.functional.cosine_similarity(actual_ND.double(), expected_ND.double()).mean())


def best_against_default(rows: Sequence[SpeedRow]) -> list[BestPrecision]:
    """Our best faithful precision against sentence-transformers' default, for each set with both."""
    results: list[BestPrecision] = []
    for default in rows:
        if default.implementation != DEFAULT or not default.tokens_per_second:
            continue
        ours = [row for row in rows if row.set == default.set and row.implementation == OURS]
        faithful = [row for row in ours if row.cosine is not None and row.cosine >= FAITHFUL]
        if faithful:
            best = max(faithful, key=lambda row: row.tokens_per_second)
            speedup = best.tokens_per_second / default.tokens_per_second
            results.append(BestPrecision(default.set, best.precision, speedup))
    return results


def _with_max_batches(
    rows: Sequence[SpeedRow],
    contenders: Sequence[Implementation],
    texts: dict[str, Documents],
    on_progress: Callable[[str], None],
) -> list[SpeedRow]:
    """Comes last, because a kernel that fails near the limit can leave CUDA unusable."""
    forwards = {(one.name, one.precision): one.forward for one in contenders}
    complete: list[SpeedRow] = []
    for row in rows:
        forward = forwards[row.implementation, row.precision]
        if forward is not None and row.tokens_per_second:
            on_progress(f"the largest batch of {row.set}: {row.implementation} in {row.precision}")
            size = largest_batch(fits_in_memory(forward, texts[row.set]), PROTOCOL_DOCUMENTS)
            row = replace(row, max_batch=size or None)
        complete.append(row)
    return complete


def shape_config(shape: str) -> ModernBertConfig:
    """The config of ``base``, ``large`` or a checkpoint's folder; NotFoundError for anything else."""
    if shape in ("base", "large"):
        return preset(f"modernbert-{shape}")
    file = Path(shape) / "config.json"
    if not file.is_file():
        raise NotFoundError(f"no shape {shape}: base, large or a checkpoint's folder is wanted")
    return ModernBertConfig.from_hf(json.loads(file.read_text()))


def describe_machine() -> str:
    """The processor or GPU, the number of threads and torch's version, in one line."""
    return f"{device_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
