"""The contract of an index: the encoder settings that made its vectors, and that queries need too."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from flatcoat.errors import ConflictError, StorageError

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from flatcoat.indexing.vectors import Shape

Precision = Literal["fp32", "fp16", "bf16", "int8"]
"""The arithmetic of a backbone; "int8" is that of its linear layers, the others compute in float32."""


@dataclass(frozen=True)
class Contract:
    """Two encoders with equal contracts (the ``model`` names aside) give equal vectors for equal texts.

    ``weights`` is a SHA-256; lengths are in tokens; ``width`` in components.

    >>> contract = Contract(
    ...     kind="dense", model="org/model", weights="", width=768, query_prefix="", document_prefix="",
    ...     query_length=512, document_length=512, pooling="mean",
    ... )
    >>> contract.shape
    Shape(kind='dense', width=768)
    >>> Contract.from_json(contract.to_json()) == contract
    True
    """

    kind: Literal["dense", "colbert"]
    model: str
    weights: str
    width: int
    query_prefix: str
    document_prefix: str
    query_length: int
    document_length: int
    pooling: str = ""
    query_expansion: bool = False
    attend_to_expansion: bool = False
    skiplist: tuple[str, ...] = ()
    precision: Precision = "fp32"
    split_identifiers: bool = False

    @property
    def shape(self) -> "Shape":
        """Kind and width of the encoder's vectors, which is all that an index needs."""
        from flatcoat.indexing.vectors import Shape

        return Shape("token" if self.kind == "colbert" else "dense", self.width)

    @property
    def settings(self) -> dict[str, Any]:
        """JSON values of all that decides the vectors: without the name of the model."""
        return {name: value for name, value in self.to_json().items() if name != "model"}

    def to_json(self) -> dict[str, Any]:
        """JSON values, read back by ``from_json``."""
        return asdict(self) | {"skiplist": list(self.skiplist)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Contract":
        """Raises StorageError for a missing or unknown field, and for a value of another type."""
        if not isinstance(values, dict):
            raise StorageError(f"the index's contract is damaged: it is {_short(values)}")
        earlier = {"precision": "fp32", "split_identifiers": False}  # Which did not name them.
        values = earlier | values
        names = {field.name for field in fields(Contract)}
        if wrong := sorted(names ^ set(values)):
            raise StorageError(
                f"the index's contract has other fields than this release knows: {', '.join(wrong)}"
            )
        for field in fields(Contract):
            value = values[field.name]
            expected = list if field.name == "skiplist" else field.type if field.type in (int, bool) else str
            if type(value) is not expected:
                raise StorageError(f"the index's contract is damaged: {field.name} is {_short(repr(value))}")
        arguments: dict[str, Any] = values | {"skiplist": tuple(values["skiplist"])}
        return Contract(**arguments)

    def require(self, other: "Contract") -> None:
        """Raise ConflictError that names the first field in which ``other`` differs.

        Models may be renamed, and may compute in another precision, which changes vectors by rounding only.
        nDCG@10 x 100 of flatcoat-small, both documents and queries in fp32, both in int8, documents in int8
        and queries in fp32: 83.03, 83.03, 83.03 on squad-dev; 28.30, 28.30, 28.27 on nfcorpus.
        """
        for field in fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name not in ("model", "precision") and ours != theirs:
                raise ConflictError(
                    f"the index was made with {field.name} {_short(ours)} (model {self.model}), "
                    f"the model given has {_short(theirs)} (model {other.model}): use the model of the index"
                )


def weights_hash(weights: "nn.Module | Mapping[str, np.ndarray]") -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of all tensors: equal for equal models.

    ``weights`` is a torch module, or its tensors as arrays by name.
    """
    import numpy as np

    digest = hashlib.sha256()
    for name, dtype, array in _tensors(weights):
        digest.update(f"{name} {dtype} {tuple(array.shape)}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _tensors(weights: "nn.Module | Mapping[str, np.ndarray]") -> "Iterator[tuple[str, str, np.ndarray]]":
    """Names, dtypes as torch writes them, and contiguous arrays of the same shape and bytes."""
    if isinstance(weights, Mapping):
        yield from ((name, f"torch.{array.dtype}", array) for name, array in sorted(weights.items()))
        return
    import torch

    # sentence-transformers 6 calls the backbone of a model what it called auto_model before.
    state = {re.sub(r"^0\.model\.", "0.auto_model.", name): it for name, it in weights.state_dict().items()}
    for name, tensor in sorted(state.items()):
        array = tensor.detach().cpu().contiguous()
        if array.dtype == torch.bfloat16:
            array = array.view(torch.int16)  # NumPy has none.
        yield name, str(tensor.dtype), array.numpy()


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"
