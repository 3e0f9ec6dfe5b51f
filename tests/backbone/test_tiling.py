"""Tiling against loops. Axes: O rows, I columns of a matrix."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flatcoat import FlatcoatError
from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.heads import MaskedLanguageModel
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch
from flatcoat.backbone.tiling import tile

SMALL = ModernBertConfig(
    vocab_size=60,
    hidden_size=16,
    intermediate_size=20,
    num_hidden_layers=3,
    num_attention_heads=2,
    initializer_range=0.2,
    pad_token_id=0,
)
LARGE = replace(
    SMALL, hidden_size=40, intermediate_size=25, num_hidden_layers=7, num_attention_heads=5, layer_types=()
)
BATCH = PackedBatch.from_sequences([[5, 6, 7, 8], list(range(10, 50))])


def made(kind: Any, config: ModernBertConfig, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = kind(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "bias" in name:
                parameter.normal_()
    return model.eval()


def slow_matrix(old: Tensor, rows: int, columns: int) -> Tensor:
    """Element by element, in the old matrix's own coordinates, which repeat without end."""
    new = torch.empty(rows, columns)
    for row in range(rows):
        for column in range(columns):
            old_row = (row - (rows - old.shape[0]) // 2) % old.shape[0]
            old_column = (column - (columns - old.shape[1]) // 2) % old.shape[1]
            new[row, column] = old[old_row, old_column]
    return new


def slow(old: Tensor, new: Tensor, matrices: int = 1) -> Tensor:
    flat = old.dim() == 1
    pieces = (old[:, None] if flat else old).chunk(matrices)
    columns = 1 if flat else new.shape[1]
    tiled = torch.cat([slow_matrix(piece, len(new) // matrices, columns) for piece in pieces])
    return tiled[:, 0] if flat else tiled


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True},
        {"mlp_kind": "mlp", "norm_position": "post", "norm_kind": "rmsnorm"},
        {"positions": "absolute", "max_position_embeddings": 48, "tie_word_embeddings": False},
    ],
    ids=["published", "biases", "flexbert", "absolute"],
)
def test_every_element_is_where_a_loop_puts_it(changes: dict[str, Any]) -> None:
    small = made(MaskedLanguageModel, replace(SMALL, **changes))
    large = tile(small, replace(LARGE, **changes))
    old, new = small.state_dict(), large.state_dict()
    sources = [0, 0, 1, 1, 2, 2, 2]  # round(i * 3 / 7)
    for name, tensor in new.items():
        origin = name
        if ".layers." in name:
            layer = int(name.split(".")[2])
            origin = name.replace(f"layers.{layer}.", f"layers.{sources[layer]}.")
        if origin not in old:
            assert name == "model.layers.1.attn_norm.weight" or "attn_norm.bias" in name
            assert (tensor == (1 if name.endswith("weight") else 0)).all()
            continue
        glu = large.config.mlp_kind == "glu"
        matrices = 3 if "Wqkv" in name else 2 if "Wi" in name and glu else 1
        assert torch.equal(tensor, slow(old[origin], tensor, matrices)), name
    assert large.config.num_hidden_layers == len(large.model.layers) == 7


def test_the_middle_is_the_old_model() -> None:
    small, large = made(ModernBert, SMALL), tile(made(ModernBert, SMALL), LARGE)
    middle = slice(12, 28)
    embeddings = large.embeddings.tok_embeddings.weight
    assert torch.equal(embeddings[:, middle], small.embeddings.tok_embeddings.weight)
    assert torch.equal(large.final_norm.weight[middle], small.final_norm.weight)
    old, new = small.layers[0], large.layers[0]
    assert torch.equal(new.attn.Wo.weight[middle, middle], old.attn.Wo.weight)
    queries = new.attn.Wqkv.weight[:40][middle, middle]
    assert torch.equal(queries, old.attn.Wqkv.weight[:16])
    gates = new.mlp.Wi.weight[25:][2:22, middle]
    assert torch.equal(gates, old.mlp.Wi.weight[20:])


def test_two_more_heads_leave_heads_whole() -> None:
    small = made(ModernBert, SMALL)
    large = tile(small, replace(SMALL, hidden_size=32, num_attention_heads=4))
    old = small.layers[2].attn.Wqkv.weight.unflatten(0, (3, 2, 8))
    new = large.layers[2].attn.Wqkv.weight.unflatten(0, (3, 4, 8))[..., 8:24]
    assert torch.equal(new, old[:, [1, 0, 1, 0]])


@torch.no_grad()
@pytest.mark.parametrize("kind", [ModernBert, MaskedLanguageModel])
def test_the_same_size_is_the_same_model(kind: Any) -> None:
    small = made(kind, SMALL)
    same = tile(small, SMALL)
    assert same is not small
    assert type(same) is kind
    assert torch.equal(same(BATCH), small(BATCH))
    next(iter(same.parameters())).zero_()
    assert not torch.equal(same(BATCH), small(BATCH))


@pytest.mark.parametrize(("old", "new"), [(22, 28), (4, 11), (1, 5), (2, 2)])
def test_layers_spread_evenly(old: int, new: int) -> None:
    small = ModernBert(replace(SMALL, num_hidden_layers=old, layer_types=()))
    with torch.no_grad():
        for index, layer in enumerate(small.layers):
            layer.mlp.Wo.weight.fill_(index)
    large = tile(small, replace(SMALL, num_hidden_layers=new, layer_types=()))
    sources = [int(layer.mlp.Wo.weight[0, 0]) for layer in large.layers]
    assert sources == [min(round(index * old / new), old - 1) for index in range(new)]
    assert sources == sorted(sources)
    assert set(sources) == set(range(old))


def test_decoder_and_embeddings_stay_tied_and_the_dtype_stays() -> None:
    large = tile(made(MaskedLanguageModel, SMALL).bfloat16(), LARGE)
    assert large.decoder.weight is large.model.embeddings.tok_embeddings.weight
    assert {parameter.dtype for parameter in large.parameters()} == {torch.bfloat16}
    assert all(parameter.requires_grad for parameter in large.parameters())


def loss_of(model: nn.Module, ids: Tensor) -> Tensor:
    """Every third token is hidden as token 1 and guessed."""
    hidden = ids.clone()
    places = torch.arange(0, ids.numel(), 3)
    hidden.view(-1)[places] = 1
    logits = model(PackedBatch.from_sequences(hidden.tolist()), places)
    return F.cross_entropy(logits, ids.view(-1)[places])


def test_a_tiled_model_knows_what_the_small_one_learned() -> None:
    config = replace(SMALL, hidden_size=32, num_hidden_layers=2, layer_types=(), initializer_range=0.02)
    torch.manual_seed(0)
    small = MaskedLanguageModel(config)
    starts = torch.randint(5, 15, (16, 1))
    ids = starts + torch.arange(24) % 4
    optimizer = torch.optim.AdamW(small.parameters(), lr=1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        loss_of(small, ids).backward()
        optimizer.step()
    grown = replace(config, hidden_size=64, num_attention_heads=4, num_hidden_layers=3, layer_types=())
    with torch.no_grad():
        tiled, fresh = loss_of(tile(small, grown), ids), loss_of(MaskedLanguageModel(grown), ids)
    assert tiled.isfinite()
    assert tiled < fresh - 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 8, "num_attention_heads": 1}, "hidden_size would shrink from 16 to 8"),
        ({"intermediate_size": 19}, "intermediate_size would shrink from 20 to 19"),
        (
            {"num_hidden_layers": 2, "layer_types": ()},
            "num_hidden_layers would shrink from 3 to 2: tiling only grows a model",
        ),
        ({"vocab_size": 61}, "vocab_size would change from 60 to 61: tiling keeps all but the sizes"),
        ({"num_attention_heads": 1}, "head_width would change from 8 to 16"),
        ({"mlp_bias": True}, "mlp_bias would change from False to True"),
        ({"norm_kind": "rmsnorm"}, "norm_kind would change from 'layernorm' to 'rmsnorm'"),
    ],
)
def test_models_that_cannot_be_tiled(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FlatcoatError, match=message):
        tile(made(ModernBert, SMALL), replace(SMALL, **changes))


def test_learned_positions_keep_their_number() -> None:
    small = replace(SMALL, positions="absolute", max_position_embeddings=48)
    with pytest.raises(FlatcoatError, match="max_position_embeddings would change from 48 to 64"):
        tile(made(ModernBert, small), replace(small, max_position_embeddings=64))
