"""How fast a ModernBERT encodes: the paper's efficiency protocol, all implementations in one run.

Four document sets of random token ids (arXiv 2412.13663, section 4.2): fixed and variable lengths, short and
long. Speed counts real tokens only, never padding. Implementations take turns, so that a busy machine slows
all of them alike; the median pass is reported.

Axes: T tokens, H heads, D width.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import FlatcoatError
from ..backbone.config import ModernBertConfig
from ..backbone.memory import reuse_freed_memory
from ..backbone.model import ModernBert
from ..backbone.packing import PackedBatch, budget_batches

Documents = list[list[int]]
Encode = Callable[[Documents], Tensor]
"""Token ids of documents to their mean-pooled hidden states, float32 [N, D], in order."""

SETS = ("fixed-512", "variable-256", "fixed-8192", "variable-4096")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
PROTOCOL_DOCUMENTS = 8192
BOUND = "matrix products alone"
_FIRST_TOKEN = 5
_COMPARED = 4


@dataclass(frozen=True)
class SpeedRow:
    """One implementation on one document set; ``cosine`` is to transformers in float32, on average."""

    set: str
    implementation: str
    precision: str
    tokens_per_second: float
    ratio_to_ours: float
    cosine: float | None
    max_batch: int | None = None

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


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


def implementations(config: ModernBertConfig, precision: str, device: str) -> dict[str, Encode]:
    """Every implementation that can run here, by name, on the same random weights."""
    import transformers

    dtype = PRECISIONS[precision]
    torch.manual_seed(0)
    ours = ModernBert(config).eval().to(device, dtype)
    found: dict[str, Encode] = {"flatcoat": packed_encode(ours, device)}
    for name in (
        "sdpa",
        "eager",
        *(["flash_attention_2"] if device == "cuda" and _has("flash_attn") else ()),
    ):
        settings = transformers.ModernBertConfig(**config.to_hf())
        theirs = transformers.AutoModel.from_config(settings, attn_implementation=name, dtype=dtype)
        theirs.load_state_dict(ours.state_dict())
        found[f"transformers {name}"] = padded_encode(theirs.eval().to(device), device)
    return found


def packed_encode(model: ModernBert, device: str, max_tokens: int = 8192) -> Encode:
    """Our encoder on batches of a token budget, similar lengths together."""

    def encode(texts: Documents) -> Tensor:
        pooled = torch.empty(len(texts), model.config.hidden_size)
        for indices in budget_batches([len(text) for text in texts], max_tokens):
            batch = PackedBatch.from_sequences([texts[index] for index in indices], device)
            hidden_TD = model(batch).float()
            means = [part.mean(dim=0) for part in hidden_TD.split(list(batch.lengths))]
            pooled[torch.tensor(indices)] = torch.stack(means).cpu()
        return pooled

    return encode


def padded_encode(model: Any, device: str, batch_size: int = 32, max_tokens: int = 16_384) -> Encode:
    """A transformers model on length-sorted padded batches, as sentence-transformers forms them."""

    def encode(texts: Documents) -> Tensor:
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        size = max(1, min(batch_size, max_tokens // len(texts[order[0]])))
        pooled = torch.empty(len(texts), model.config.hidden_size)
        for start in range(0, len(order), size):
            indices = order[start : start + size]
            lengths = torch.tensor([len(texts[index]) for index in indices], device=device)
            mask = torch.arange(int(lengths[0]), device=device) < lengths[:, None]
            ids = torch.zeros(mask.shape, dtype=torch.long, device=device)
            ids[mask] = torch.tensor([token for index in indices for token in texts[index]], device=device)
            hidden = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
            means = (hidden * mask[..., None]).sum(dim=1) / lengths[:, None]
            pooled[torch.tensor(indices)] = means.cpu()
        return pooled

    return encode


def matrix_products(config: ModernBertConfig, precision: str, device: str, max_tokens: int = 8192) -> Encode:
    """The linear layers' products alone, over the same tokens: no encoder can be faster in this precision."""
    dtype = PRECISIONS[precision]
    width, inner = config.hidden_size, config.intermediate_size
    shapes = ((width, 3 * width), (width, width), (width, 2 * inner), (inner, width))
    layers = [nn.Linear(*shape, bias=False, device=device, dtype=dtype) for shape in shapes]

    def encode(texts: Documents) -> Tensor:
        for indices in budget_batches([len(text) for text in texts], max_tokens):
            tokens = sum(len(texts[index]) for index in indices)
            inputs = {size: torch.randn(tokens, size, device=device, dtype=dtype) for size in (width, inner)}
            for _ in range(config.num_hidden_layers):
                for layer in layers:
                    layer(inputs[layer.in_features])
        if device == "cuda":
            torch.cuda.synchronize()
        return torch.zeros(len(texts), width)

    return encode


def measure(encoders: dict[str, Encode], texts: Documents, passes: int) -> dict[str, float]:
    """Real tokens per second of each encoder: the median of ``passes``, taken in turns after a warm-up."""
    tokens = sum(map(len, texts))
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    with torch.inference_mode():
        for encode in encoders.values():
            encode(texts[:1])
        for _ in range(passes):
            for name, encode in encoders.items():
                began = time.perf_counter()
                encode(texts)
                seconds[name].append(time.perf_counter() - began)
    return {name: tokens / statistics.median(taken) for name, taken in seconds.items()}


def mean_cosine(found: Tensor, expected: Tensor) -> float:
    """Mean cosine of two sets of vectors, row by row."""
    return float(nn.functional.cosine_similarity(found.double(), expected.double()).mean())


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def compare(
    shape: str,
    sets: Sequence[str],
    precisions: Sequence[str],
    scale: float,
    passes: int,
    on_progress: Callable[[str], None] = lambda what: None,
) -> list[SpeedRow]:
    """Measure every implementation on every set in every precision; ours first in each group.

    ``shape`` is base, large or a checkpoint's folder, ``scale`` the fraction of the protocol's tokens.
    Raises FlatcoatError for an unknown shape, set or precision.
    """
    if wrong := sorted(set(precisions) - set(PRECISIONS)):
        raise FlatcoatError(f"no precision {wrong[0]}: known are {', '.join(PRECISIONS)}")
    reuse_freed_memory()
    config = _config(shape)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    texts = {name: documents(name, document_count(name, scale), config.vocab_size) for name in sets}
    expected = _expected(config, texts, device)
    rows: list[SpeedRow] = []
    for precision in precisions:
        encoders = implementations(config, precision, device)
        bound = {BOUND: matrix_products(config, precision, device)}
        for name in sets:
            on_progress(f"{name} in {precision}")
            speeds = measure(encoders | bound, texts[name], passes)
            for implementation, speed in speeds.items():
                cosine = None
                if implementation in encoders:
                    with torch.inference_mode():
                        found = encoders[implementation](texts[name][:_COMPARED])
                    cosine = mean_cosine(found, expected[name])
                ratio = speed / speeds["flatcoat"]
                rows.append(SpeedRow(name, implementation, precision, speed, ratio, cosine))
    return rows


def document_count(name: str, scale: float) -> int:
    """Documents of a set so that every set holds about ``scale`` of the protocol's 8192 x 512 tokens."""
    return max(1, round(scale * PROTOCOL_DOCUMENTS * 512 / _parsed(name)[1]))


def _parsed(name: str) -> tuple[str, int]:
    kind, _, size = name.partition("-")
    if kind not in ("fixed", "variable") or not size.isdigit() or int(size) < 1:
        raise FlatcoatError(f"no document set {name}: write {', '.join(SETS)} or another length")
    return kind, int(size)


def describe_machine() -> str:
    """Processor or GPU, threads and torch, in one line."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def draw(rows: Sequence[SpeedRow], machine: str, file: Path) -> None:
    """One panel a precision: bars of tokens a second for each set and implementation, as a PNG."""
    from matplotlib.figure import Figure

    precisions = list(dict.fromkeys(row.precision for row in rows))
    names = list(dict.fromkeys(row.set for row in rows))
    figure = Figure(figsize=(6 * len(precisions), 4.5), layout="constrained")
    panels = figure.subplots(1, len(precisions), squeeze=False)[0]
    for axes, precision in zip(panels, precisions, strict=True):
        group = [row for row in rows if row.precision == precision]
        kinds = list(dict.fromkeys(row.implementation for row in group))
        width = 0.8 / len(kinds)
        for place, kind in enumerate(kinds):
            bars = [
                (names.index(row.set), row.tokens_per_second) for row in group if row.implementation == kind
            ]
            offsets = [at + (place - (len(kinds) - 1) / 2) * width for at, _ in bars]
            axes.bar(offsets, [speed for _, speed in bars], width * 0.92, label=kind)
        axes.set(title=precision, xticks=range(len(names)), xticklabels=names, ylabel="real tokens a second")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="x", labelrotation=15)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(machine, fontsize="small")
    figure.savefig(file, dpi=120)


def _config(shape: str) -> ModernBertConfig:
    if shape == "base":
        return ModernBertConfig()
    if shape == "large":
        return ModernBertConfig(
            hidden_size=1024, intermediate_size=2624, num_hidden_layers=28, num_attention_heads=16
        )
    file = Path(shape) / "config.json"
    if not file.is_file():
        raise FlatcoatError(f"no shape {shape}: base, large or a checkpoint's folder is wanted")
    return ModernBertConfig.from_hf(json.loads(file.read_text()))


def _expected(config: ModernBertConfig, texts: dict[str, Documents], device: str) -> dict[str, Tensor]:
    """What transformers makes of the first documents in float32."""
    encode = implementations(config, "fp32", device)["transformers sdpa"]
    with torch.inference_mode():
        return {name: encode(rows[:_COMPARED]) for name, rows in texts.items()}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    found = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return found or platform.processor() or platform.machine()
