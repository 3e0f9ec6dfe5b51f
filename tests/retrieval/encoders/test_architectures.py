"""``config.json`` names the class that other libraries load, whoever writes the checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from flatcoat.retrieval.encoders.backbone import unpad_backbone
from flatcoat.retrieval.encoders.colbert import ColbertEncoder
from flatcoat.retrieval.encoders.colbert_model import ColbertModel
from flatcoat.retrieval.encoders.dense import DenseEncoder
from flatcoat.retrieval.encoders.load import SHIPPED_MODEL, load_encoder
from flatcoat.retrieval.training.settings import TrainingSettings
from flatcoat.retrieval.training.train import train

MakeFolder = Callable[..., Path]


def architectures(folder: Path) -> list[str]:
    return json.loads((folder / "config.json").read_text())["architectures"]


@pytest.fixture(params=["colbert", "dense"])
def folder(request: pytest.FixtureRequest, make_colbert: MakeFolder, make_dense: MakeFolder) -> Path:
    return make_colbert() if request.param == "colbert" else make_dense()


def unpadded(folder: Path) -> SentenceTransformer:
    """The model as it is trained: loaded by PyLate or sentence-transformers, with flatcoat's backbone."""
    late = "colbert" in (folder / "modules.json").read_text().lower()
    model = (
        ColbertModel(str(folder), device="cpu") if late else SentenceTransformer(str(folder), device="cpu")
    )
    assert unpad_backbone(model)
    return model


def test_of_the_model_alone(folder: Path, tmp_path: Path) -> None:
    unpadded(folder)[0].auto_model.save_pretrained(str(tmp_path))
    assert architectures(tmp_path) == ["ModernBertModel"]


def test_of_a_whole_encoder(folder: Path, tmp_path: Path) -> None:
    unpadded(folder).save(str(tmp_path), create_model_card=False)
    assert architectures(tmp_path) == ["ModernBertModel"]


def test_of_an_encoder_that_was_read_without_its_library(folder: Path, tmp_path: Path) -> None:
    load_encoder(folder).save(tmp_path)  # type: ignore[attr-defined]
    assert architectures(tmp_path) == ["ModernBertModel"]


@pytest.mark.parametrize("kind", [ColbertEncoder, DenseEncoder])
def test_of_an_encoder_that_its_library_loaded(
    kind: type[ColbertEncoder] | type[DenseEncoder],
    make_colbert: MakeFolder,
    make_dense: MakeFolder,
    tmp_path: Path,
) -> None:
    kind.load(make_colbert() if kind is ColbertEncoder else make_dense(), device="cpu").save(tmp_path)
    assert architectures(tmp_path) == ["ModernBertModel"]


def test_of_checkpoints_of_a_training_run(folder: Path, tmp_path: Path) -> None:
    rows = Dataset.from_list([{"query": f"cat {n}", "document": f"the cat {n}"} for n in range(8)])
    train(
        unpadded(folder),
        {"cats": rows},
        settings=TrainingSettings(batch_size=4, learning_rate=1e-3, max_steps=1, save_every=1),
        folder=tmp_path,
    )
    assert architectures(tmp_path / "checkpoint-1") == ["ModernBertModel"]


def test_of_the_shipped_model() -> None:
    assert architectures(SHIPPED_MODEL) == ["BertModel"]
