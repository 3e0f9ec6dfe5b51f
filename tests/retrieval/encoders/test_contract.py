import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from flatcoat import FlatcoatError
from flatcoat.retrieval.encoders.contract import Contract, weights_hash

CONTRACT = Contract(
    kind="colbert",
    model="org/model",
    weights="a" * 64,
    width=128,
    query_prefix="[Q] ",
    document_prefix="[D] ",
    query_length=32,
    document_length=300,
    query_expansion=True,
    skiplist=(".", ","),
)


def test_json_keeps_everything() -> None:
    assert Contract.from_json(json.loads(json.dumps(CONTRACT.to_json()))) == CONTRACT


@pytest.mark.parametrize("change", [{"colour": 1}, {"width": None}])
def test_other_fields_are_named(change: dict[str, Any]) -> None:
    values = CONTRACT.to_json() | change
    values = {name: value for name, value in values.items() if value is not None}
    with pytest.raises(FlatcoatError, match=f"other fields than this release knows: {next(iter(change))}"):
        Contract.from_json(values)


@pytest.mark.parametrize(("name", "value"), [("precision", "int8"), ("split_identifiers", True)])
def test_contracts_of_earlier_releases_have_the_default(name: str, value: Any) -> None:
    values = replace(CONTRACT, **{name: value}).to_json()
    del values[name]
    assert Contract.from_json(values) == CONTRACT
    assert (CONTRACT.precision, CONTRACT.split_identifiers) == ("fp32", False)


def test_a_model_may_be_renamed_and_computed_in_another_precision() -> None:
    CONTRACT.require(CONTRACT)
    CONTRACT.require(replace(CONTRACT, model="/another/place", precision="int8"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "dense"),
        ("weights", "b" * 64),
        ("width", 64),
        ("query_prefix", ""),
        ("document_prefix", "x"),
        ("query_length", 33),
        ("document_length", 180),
        ("pooling", "mean"),
        ("query_expansion", False),
        ("attend_to_expansion", True),
        ("skiplist", ()),
        ("split_identifiers", True),
    ],
)
def test_every_other_field_must_agree(name: str, value: Any) -> None:
    with pytest.raises(FlatcoatError, match=rf"made with {name} .*org/model.*use the model of the index"):
        CONTRACT.require(replace(CONTRACT, **{name: value}))


def test_the_hash_follows_names_dtypes_and_every_bit() -> None:
    torch.manual_seed(0)
    first, second = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    second.load_state_dict(first.state_dict())
    assert weights_hash(first) == weights_hash(second)
    with torch.no_grad():
        second.weight[1, 2] = torch.nextafter(second.weight[1, 2], torch.tensor(9.0))
    assert weights_hash(first) != weights_hash(second)
    assert weights_hash(first) != weights_hash(torch.nn.Sequential(first))
    assert weights_hash(torch.nn.Linear(3, 2).to(torch.bfloat16)) != weights_hash(first)
