"""Each error of an encoder is of the class by which its caller decides what to do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flatcoat.errors import ConflictError, DataError, FlatcoatError, NotFoundError, StorageError, UsageError
from flatcoat.retrieval.encoders.checkpoint_files import in_folder, require_data_only
from flatcoat.retrieval.encoders.contract import Contract
from flatcoat.retrieval.encoders.encoder import checked_texts
from flatcoat.retrieval.encoders.load import load_encoder, load_untrusted

CONTRACT = Contract("dense", "a", "", 8, "", "", 9, 9)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda folder: checked_texts("one text"), UsageError),
        (lambda folder: load_encoder(None, "fp8"), UsageError),
        (lambda folder: load_untrusted(str(folder), named_by="index x"), UsageError),
        (lambda folder: load_encoder(folder / "nowhere"), NotFoundError),
        (lambda folder: load_encoder(folder), DataError),
        (lambda folder: require_data_only(in_folder(folder), "x"), DataError),
        (lambda folder: CONTRACT.require(replace(CONTRACT, width=9)), ConflictError),
        (lambda folder: Contract.from_json({"kind": "dense"}), StorageError),
    ],
)
def test_errors_are_of_their_class(
    tmp_path: Path, call: Callable[[Path], Any], kind: type[FlatcoatError]
) -> None:
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(kind):
        call(tmp_path)
