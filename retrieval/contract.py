"""What made a set of vectors. An index keeps it, so that nothing else is ever searched against them."""

import hashlib
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from .. import FlatcoatError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Contract:
    """Two encoders with equal contracts (their ``model`` names aside) give equal vectors for equal texts.

    ``weights`` is a sha256; lengths are in tokens; ``width`` in components.
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

    def to_json(self) -> dict[str, Any]:
        """JSON values, read back by ``from_json``."""
        return asdict(self) | {"skiplist": list(self.skiplist)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Contract":
        """Raises FlatcoatError where a field is missing or unknown."""
        names = {field.name for field in fields(Contract)}
        if wrong := sorted(names ^ set(values)):
            raise FlatcoatError(
                f"the index's contract has other fields than this release knows: {', '.join(wrong)}"
            )
        arguments: dict[str, Any] = values | {"skiplist": tuple(values["skiplist"])}
        return Contract(**arguments)

    def require(self, other: "Contract") -> None:
        """Raise FlatcoatError naming the first field in which ``other`` differs; models may be renamed."""
        for field in fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name != "model" and ours != theirs:
                raise FlatcoatError(
                    f"the index was made with {field.name} {_short(ours)} (model {self.model}), "
                    f"the model given has {_short(theirs)} (model {other.model}): use the model of the index"
                )


def weights_hash(module: "nn.Module") -> str:
    """sha256 over every parameter's name, dtype, shape and bytes: equal for equal models."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"
