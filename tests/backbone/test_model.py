"""The packed forward against transformers' padded one. Axes: N sequences, L padded length, D width."""

import copy
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from transformers import ModernBertConfig as HFConfig
from transformers import ModernBertModel

from flatcoat.backbone import hf_model
from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch

LENGTHS = (1, 2, 64, 65, 66, 129, 130, 192, 193, 300, 1000)
VOCAB = 200


class Pair(NamedTuple):
    """The same weights twice."""

    ours: ModernBert
    theirs: ModernBertModel


def make_pair(attention: str, **shape: int) -> Pair:
    """Heads, window and layer pattern of the base model, and weights large enough to make outputs differ."""
    values = {"hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 2}
    config = ModernBertConfig(
        vocab_size=VOCAB, **(values | shape), initializer_range=0.1, pad_token_id=0, cls_token_id=1
    )
    torch.manual_seed(0)
    ours = ModernBert(config).eval()
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) / 5)
    hf_config = HFConfig(**config.to_hf())
    hf_config._attn_implementation = attention
    theirs = ModernBertModel(hf_config).eval()
    theirs.load_state_dict(ours.state_dict())
    return Pair(ours, theirs)


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return make_pair(request.param)


@pytest.fixture(scope="module")
def sdpa() -> Pair:
    return make_pair("sdpa")


def random_ids(length: int, seed: int = 0) -> Tensor:
    return torch.randint(5, VOCAB, (length,), generator=torch.Generator().manual_seed(seed + length))


def pack(sequences: list[Tensor]) -> PackedBatch:
    return PackedBatch.from_sequences([ids.tolist() for ids in sequences])


@torch.no_grad()
def alone(model: ModernBertModel, ids: Tensor) -> Tensor:
    return model(ids[None], attention_mask=torch.ones_like(ids[None])).last_hidden_state[0]


def assert_near(came: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert came.shape == expected.shape
    assert (came - expected).abs().max() <= tolerance * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("length", LENGTHS)
def test_one_sequence_is_as_in_transformers(pair: Pair, length: int) -> None:
    ids = random_ids(length)
    with torch.no_grad():
        hidden_TD = pair.ours(pack([ids]))
    assert_near(hidden_TD, alone(pair.theirs, ids))


def test_the_published_length_of_8192_tokens() -> None:
    ours, theirs = make_pair("sdpa", hidden_size=16, num_hidden_layers=2, intermediate_size=16)
    ids = random_ids(8192)
    with torch.no_grad():
        hidden_TD = ours(pack([ids]))
    assert_near(hidden_TD, alone(theirs, ids))


def test_mixed_lengths_do_not_see_each_other(sdpa: Pair) -> None:
    sequences = [random_ids(length, seed) for seed, length in enumerate((130, 1, 300, 65, 2, 193, 300, 1))]
    with torch.no_grad():
        pieces = sdpa.ours(pack(sequences)).split([len(ids) for ids in sequences])
        backwards = sdpa.ours(pack(sequences[::-1])).split([len(ids) for ids in sequences[::-1]])
    for ids, hidden_LD, again_LD in zip(sequences, pieces, reversed(backwards), strict=True):
        assert_near(hidden_LD, alone(sdpa.theirs, ids))
        assert_near(hidden_LD, again_LD)


def test_it_is_the_reference_attention_that_is_computed(sdpa: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = pack([random_ids(length) for length in (70, 300, 300, 5)])
    with torch.no_grad():
        fast = sdpa.ours(batch)
        monkeypatch.setenv("FLATCOAT_ATTENTION", "reference")
        assert_near(fast, sdpa.ours(batch))


def test_no_sequences_give_no_vectors(sdpa: Pair) -> None:
    assert sdpa.ours(PackedBatch.from_sequences([])).shape == (0, 128)


def padding(kind: str, rows: int, columns: int) -> Tensor:
    """Attention masks: rows of falling length, their padding at one side or anywhere."""
    lengths = torch.linspace(columns, 1, rows).long()
    right = torch.arange(columns) < lengths[:, None]
    if kind == "right":
        return right.long()
    if kind == "left":
        return right.flip(1).long()
    shuffle = torch.Generator().manual_seed(0)
    return torch.stack([row[torch.randperm(columns, generator=shuffle)] for row in right]).long()


@torch.no_grad()
def expected_rows(model: ModernBertModel, ids_NL: Tensor, mask_NL: Tensor) -> Tensor:
    """Each row alone without its padding, put back to where its tokens stood."""
    expected_NLD = torch.zeros(*ids_NL.shape, model.config.hidden_size)
    for expected_LD, ids_L, mask_L in zip(expected_NLD, ids_NL, mask_NL.bool(), strict=True):
        expected_LD[mask_L] = alone(model, ids_L[mask_L])
    return expected_NLD


@pytest.mark.parametrize("kind", ["left", "right", "interleaved"])
def test_padding_may_stand_anywhere(sdpa: Pair, kind: str) -> None:
    mask_NL = padding(kind, rows=5, columns=210)
    ids_NL = random_ids(mask_NL.numel()).view_as(mask_NL)
    with torch.no_grad():
        came_NLD = hf_model.ModernBertModel.of(sdpa.theirs)(ids_NL, mask_NL).last_hidden_state
    assert_near(came_NLD, expected_rows(sdpa.theirs, ids_NL, mask_NL))
    assert came_NLD[mask_NL == 0].abs().max() == 0


def test_right_padding_equals_the_padded_forward_itself(pair: Pair) -> None:
    mask_NL = padding("right", rows=4, columns=150)
    ids_NL = random_ids(mask_NL.numel()).view_as(mask_NL)
    with torch.no_grad():
        came_NLD = hf_model.ModernBertModel.of(pair.theirs)(ids_NL, mask_NL).last_hidden_state
        expected_NLD = pair.theirs(ids_NL, attention_mask=mask_NL).last_hidden_state
    assert_near(came_NLD[mask_NL.bool()], expected_NLD[mask_NL.bool()])


def test_without_a_mask_every_token_counts(sdpa: Pair) -> None:
    ids_NL = random_ids(3 * 70).view(3, 70)
    padded = hf_model.ModernBertModel.of(sdpa.theirs)
    with torch.no_grad():
        expected_NLD = padded(ids_NL, torch.ones_like(ids_NL)).last_hidden_state
        assert torch.equal(padded(ids_NL).last_hidden_state, expected_NLD)


@pytest.mark.parametrize("rows", [[0, 9, 0, 5], [0, 0]])
def test_a_row_of_padding_only_is_zeros(sdpa: Pair, rows: list[int]) -> None:
    mask_NL = (torch.arange(9) < torch.tensor(rows)[:, None]).long()
    model = hf_model.ModernBertModel.of(copy.deepcopy(sdpa.theirs))
    came_NLD = model(random_ids(mask_NL.numel()).view_as(mask_NL), mask_NL).last_hidden_state
    assert came_NLD.isfinite().all()
    assert came_NLD[mask_NL == 0].abs().max() == 0
    came_NLD.sum().backward()
    assert all(
        parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None
    )


@pytest.mark.parametrize("columns", [32, 100])
def test_kept_tokens_are_computed_but_not_attended_to(sdpa: Pair, columns: int) -> None:
    lengths = torch.tensor([3, columns, 17, 1])
    mask_NL = (torch.arange(columns) < lengths[:, None]).long()
    ids_NL = random_ids(mask_NL.numel()).view_as(mask_NL)
    with torch.no_grad():
        came_NLD = hf_model.ModernBertModel.of(sdpa.theirs)(
            ids_NL, mask_NL, torch.ones_like(mask_NL)
        ).last_hidden_state
        expected_NLD = sdpa.theirs(ids_NL, attention_mask=mask_NL).last_hidden_state
    assert_near(came_NLD, expected_NLD)
    assert came_NLD[mask_NL == 0].abs().max() > 0


@pytest.mark.parametrize("kind", ["left", "right"])
def test_gradients_are_those_of_transformers(sdpa: Pair, kind: str) -> None:
    theirs = copy.deepcopy(sdpa.theirs)
    ours = hf_model.ModernBertModel.of(copy.deepcopy(sdpa.theirs))
    mask_NL = padding(kind, rows=5, columns=200)
    ids_NL = random_ids(mask_NL.numel()).view_as(mask_NL)
    weights_NLD = torch.randn(*mask_NL.shape, 128, generator=torch.Generator().manual_seed(1))
    for model in (ours, theirs):
        hidden_NLD = model(input_ids=ids_NL, attention_mask=mask_NL).last_hidden_state
        (hidden_NLD * weights_NLD * mask_NL[..., None]).sum().backward()
    expected = dict(theirs.named_parameters())
    assert expected.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        gradient, wanted = parameter.grad, expected[name].grad
        assert gradient is not None, name
        assert wanted is not None, name
        assert_near(gradient, wanted, 1e-4)


def test_the_weights_are_shared_not_copied(sdpa: Pair) -> None:
    theirs = copy.deepcopy(sdpa.theirs)
    ours = hf_model.ModernBertModel.of(theirs)
    assert ours.layers[1].attn.Wqkv.weight.data_ptr() == theirs.layers[1].attn.Wqkv.weight.data_ptr()
    assert ours.training is theirs.training is False
    assert hf_model.ModernBertModel.of(theirs.train()).training is True
    assert sorted(ours.state_dict()) == sorted(theirs.state_dict())


def test_initial_weights_spread_as_the_paper_says() -> None:
    torch.manual_seed(0)
    config = ModernBertConfig(vocab_size=2000, hidden_size=128, num_attention_heads=2, num_hidden_layers=8)
    for name, parameter in ModernBert(config).named_parameters():
        if "norm" in name:
            assert (parameter == 1).all()
            continue
        sigma = 0.02 / (2 * 8) ** 0.5 if name.endswith("Wo.weight") else 0.02
        assert parameter.abs().max() <= 2 * sigma
        # A normal distribution cut at two sigma has 0.88 of its spread.
        assert float(parameter.detach().std()) == pytest.approx(0.88 * sigma, rel=0.05), name


def test_bfloat16_keeps_the_direction_of_pooled_embeddings() -> None:
    torch.manual_seed(0)
    model = ModernBert(ModernBertConfig(vocab_size=VOCAB, hidden_size=128, num_attention_heads=2)).eval()
    batch = pack([random_ids(length) for length in (40, 200, 300)])
    with torch.inference_mode():
        exact_TD, rounded_TD = model(batch), model.bfloat16()(batch)
    assert rounded_TD.dtype == torch.bfloat16
    pooled = [
        torch.stack([part.float().mean(dim=0) for part in hidden_TD.split(list(batch.lengths))])
        for hidden_TD in (exact_TD, rounded_TD)
    ]
    assert torch.cosine_similarity(*pooled).min() >= 0.9999
