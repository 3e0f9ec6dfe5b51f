"""What stands between an encoder and the logits of a task, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Task = Literal["masked", "sequence", "token"]
"""Masked language modelling, one set of logits per text, one per token."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """``modules`` maps the backbone's ``head.dense`` and ``head.norm``, as far as there are such layers, and
    the last layer, ``decoder`` or ``classifier``, to the family's. ``bias`` names the parameter to which the
    bias of a decoder that shares the embeddings is tied. ``activation`` follows ``head.dense``: its name, or
    that of the config's field that holds it. ``dense_bias`` is the field that says whether ``head.dense``
    has a bias ("": it has). ``dropout`` lists the keys of config.json that set it; the first with a value
    counts.
    """

    architecture: str
    modules: Mapping[str, str]
    bias: str = ""
    activation: str = "activation"
    dense_bias: str = ""
    dropout: tuple[str, ...] = ()

    def parameters(self, tied: bool) -> dict[str, tuple[str, ...]]:
        """The parameters of the backbone's head, each with the family's names, the one to write first.

        ``tied`` is whether the decoder shares the embeddings.
        """
        found: dict[str, tuple[str, ...]] = {}
        for ours, theirs in self.modules.items():
            found[f"{ours}.weight"] = (f"{theirs}.weight",)
            found[f"{ours}.bias"] = (f"{theirs}.bias",)
        if self.bias:
            names = (self.bias, *found["decoder.bias"])
            found["decoder.bias"] = names if tied else names[::-1]
        return found
