"""Each error is the leaf that tells its caller what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flatcoat.backbone.attention_dispatch import choose
from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.fill_mask import FillMask
from flatcoat.backbone.heads import MaskedLanguageModel, SequenceClassifier, with_labels
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch
from flatcoat.backbone.presets import preset
from flatcoat.errors import DataError, FlatcoatError, NotFoundError, UsageError

CALLS: list[tuple[Callable[[Path], object], type[FlatcoatError]]] = [
    (lambda _: ModernBertConfig(hidden_size=10, num_attention_heads=3), UsageError),
    (lambda _: ModernBertConfig(positions="nowhere"), UsageError),  # type: ignore[arg-type]
    (lambda _: preset("bert"), UsageError),
    (lambda _: with_labels(preset("modernbert-base"), 0), UsageError),
    (lambda _: PackedBatch.from_sequences([[1], []]), UsageError),
    (lambda folder: SequenceClassifier.from_pretrained(folder), UsageError),
    (lambda _: ModernBertConfig.from_hf({"model_type": "llama"}), DataError),
    (lambda _: ModernBertConfig.from_hf({"model_type": "modernbert", "hidden_size": -1}), DataError),
    (lambda folder: ModernBert.from_pretrained(folder.parent), DataError),
    (lambda folder: MaskedLanguageModel.from_pretrained(_cut(folder)), DataError),
    (lambda folder: ModernBert.from_pretrained(folder / "nowhere"), NotFoundError),
    (lambda folder: FillMask.from_pretrained(folder / "nowhere"), NotFoundError),
]


def _cut(folder: Path) -> Path:
    (folder / "model.safetensors").write_bytes(b"cut")
    return folder


@pytest.mark.parametrize(("call", "leaf"), CALLS)
def test_the_leaf_says_what_to_do(
    call: Callable[[Path], object], leaf: type[FlatcoatError], tmp_path: Path
) -> None:
    config = ModernBertConfig(
        vocab_size=8,
        hidden_size=4,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        pad_token_id=0,
    )
    ModernBert(config).save_pretrained(tmp_path / "model")
    with pytest.raises(leaf) as raised:
        call(tmp_path / "model")
    assert raised.type is leaf


def test_a_forced_kernel_that_cannot_run_is_the_callers_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    for forced in ("flash", "no such kernel"):
        monkeypatch.setenv("FLATCOAT_ATTENTION", forced)
        with pytest.raises(UsageError):
            choose(torch.device("cpu"), torch.float32)
