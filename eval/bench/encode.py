"""How fast a ModernBERT encodes: the paper's efficiency protocol, all implementations in one run.

Four document sets of random token ids (arXiv 2412.13663, section 4.2): fixed and variable lengths, short and
long. Speed counts real tokens only, never padding. Implementations take turns in all precisions, so that a
busy machine slows all of them alike; the median pass is reported. Batches are sorted by length: with few
documents a padded batch spans more lengths, and wastes more, than with the protocol's 8192.

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
from flatcoat.backbone.config import shape as published_shape
from flatcoat.backbone.environment import DTYPES, device_name, fast_precisions
from flatcoat.backbone.malloc import reuse_freed_memory
from flatcoat.errors import FlatcoatError

from .encode_loops import Documents, Measured, fits_in_memory, largest_batch, measure
from .encode_peers import (
    BOUND,
    DEFAULT,
    OURS,
    Implementation,
    inference,
    random_encoder,
    reference_encode,
    training,
)

SETS = ("fixed-512", "variable-256", "fixed-8192", "variable-4096")
PROTOCOL_DOCUMENTS = 8192
SCALE = {"cpu": 0.001, "cuda": 0.05}
"""The fraction of the protocol's tokens that a device encodes within minutes in all."""

FAITHFUL = 0.995
"""The cosine to transformers in float32 from which a faster precision is worth naming."""

_FIRST_TOKEN = 5
_COMPARED = 4


@dataclass(frozen=True)
class SpeedRow:
    """One implementation on ``documents`` of a set; ``ratio_to_ours`` is within its precision.

    ``cosine`` is to transformers in float32, on average. With random weights it shows that the arithmetic
    agrees, not what rounding costs a trained model. ``tokens_per_second`` is 0 where the device ran out of
    memory. ``max_batch``, on CUDA, is the most documents that fit in one forward beside all weights.
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

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


class Best(NamedTuple):
    """Our fastest faithful precision on a set, and how many times sentence-transformers' default it is."""

    set: str
    precision: str
    speedup: float


def compare(
    shape: str,
    sets: Sequence[str] = SETS,
    precisions: Sequence[str] = (),
    scale: float | None = None,
    passes: int = 3,
    train: bool = False,
    max_batch: bool = True,
    on_progress: Callable[[str], None] = lambda what: None,
) -> list[SpeedRow]:
    """Measure every implementation on every set in every precision; ours first in each group.

    ``shape`` is base, large or a checkpoint's folder; no ``precisions`` means all that the device has;
    ``scale`` is the fraction of the protocol's tokens, None that of SCALE; ``train`` times training steps.
    Raises FlatcoatError for an unknown shape, set or precision.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precisions = _checked_precisions(precisions, device, train)
    config = shape_config(shape)
    scale = SCALE[device] if scale is None else scale
    texts = {
        name: documents(name, document_count(name, scale), config.vocab_size) for name in dict.fromkeys(sets)
    }
    reuse_freed_memory()
    source = random_encoder(config, device)
    contenders = (training if train else inference)(source, precisions, device)
    reference = reference_encode(source, device)
    rows: list[SpeedRow] = []
    for name in texts:
        expected_ND = reference(texts[name][:_COMPARED])
        encoders = {f"{name}: {one.name} in {one.precision}": one.encode for one in contenders}
        measured = measure(encoders, texts[name], passes, on_progress)
        rows += _rows(name, len(texts[name]), zip(contenders, measured.values(), strict=True), expected_ND)
    if device == "cuda" and max_batch and not train:
        return _with_max_batches(rows, contenders, texts, on_progress)
    return rows


def known_precisions(device: str, train: bool = False) -> tuple[str, ...]:
    """The precisions that can be measured on ``cpu`` or ``cuda``."""
    return (*DTYPES, "int8") if device == "cpu" and not train else tuple(DTYPES)


def _checked_precisions(precisions: Sequence[str], device: str, train: bool) -> Sequence[str]:
    known = known_precisions(device, train)
    if wrong := sorted(set(precisions) - set(known)):
        task = "training" if train else "inference"
        raise FlatcoatError(f"no precision {wrong[0]} for {task} on {device}: known are {', '.join(known)}")
    fast = fast_precisions(torch.device(device))
    return list(dict.fromkeys(precisions)) or [name for name in known if name in fast]


def documents(name: str, count: int, vocab_size: int) -> Documents:
    """``count`` documents of a set named as in SETS, ids drawn with the protocol's seed 42.

    ``fixed-N`` is N tokens each, ``variable-N`` normal around N, cut to 32..2N.
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
    """Documents of a set so that every set holds about ``scale`` of the protocol's 8192 x 512 tokens."""
    return max(1, round(scale * PROTOCOL_DOCUMENTS * 512 / _parsed(name)[1]))


def _parsed(name: str) -> tuple[str, int]:
    kind, _, size = name.partition("-")
    if kind not in ("fixed", "variable") or not size.isdigit() or int(size) < 1:
        raise FlatcoatError(f"no document set {name}: write {', '.join(SETS)} or another length")
    return kind, int(size)


def _rows(
    name: str, count: int, results: Iterable[tuple[Implementation, Measured]], expected_ND: Tensor
) -> Iterator[SpeedRow]:
    ours = 0.0
    for one, (speed, vectors_ND) in results:
        ours = speed if one.name == OURS else ours
        cosine = None
        if vectors_ND is not None and one.name != BOUND:
            cosine = mean_cosine(vectors_ND[: len(expected_ND)], expected_ND)
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


def mean_cosine(found_ND: Tensor, expected_ND: Tensor) -> float:
    """Mean cosine of two sets of vectors, row by row."""
    return float(nn.functional.cosine_similarity(found_ND.double(), expected_ND.double()).mean())


def best_against_default(rows: Sequence[SpeedRow]) -> list[Best]:
    """Ours in its best faithful precision against sentence-transformers' default, for each set with both."""
    found: list[Best] = []
    for default in rows:
        if default.implementation != DEFAULT or not default.tokens_per_second:
            continue
        ours = [row for row in rows if row.set == default.set and row.implementation == OURS]
        faithful = [row for row in ours if row.cosine is not None and row.cosine >= FAITHFUL]
        if faithful:
            best = max(faithful, key=lambda row: row.tokens_per_second)
            speedup = best.tokens_per_second / default.tokens_per_second
            found.append(Best(default.set, best.precision, speedup))
    return found


def _with_max_batches(
    rows: Sequence[SpeedRow],
    contenders: Sequence[Implementation],
    texts: dict[str, Documents],
    on_progress: Callable[[str], None],
) -> list[SpeedRow]:
    """Last of all, because a kernel that fails near the limit can leave CUDA unusable."""
    forwards = {(one.name, one.precision): one.forward for one in contenders}
    found: list[SpeedRow] = []
    for row in rows:
        forward = forwards[row.implementation, row.precision]
        if forward is not None and row.tokens_per_second:
            on_progress(f"the largest batch of {row.set}: {row.implementation} in {row.precision}")
            size = largest_batch(fits_in_memory(forward, texts[row.set]), PROTOCOL_DOCUMENTS)
            row = replace(row, max_batch=size or None)
        found.append(row)
    return found


def shape_config(shape: str) -> ModernBertConfig:
    """The config of ``base``, ``large`` or a checkpoint's folder. Raises FlatcoatError for another."""
    if shape in ("base", "large"):
        return published_shape(f"modernbert-{shape}")
    file = Path(shape) / "config.json"
    if not file.is_file():
        raise FlatcoatError(f"no shape {shape}: base, large or a checkpoint's folder is wanted")
    return ModernBertConfig.from_hf(json.loads(file.read_text()))


def describe_machine() -> str:
    """Processor or GPU, threads and torch, in one line."""
    return f"{device_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
