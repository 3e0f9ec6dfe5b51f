import pytest

from flatcoat.indexing.documents import normalized


@pytest.mark.parametrize(
    ("came", "kept"),
    [
        ("plain", "plain"),
        ("re\u0301sume\u0301", "r\u00e9sum\u00e9"),
        ("Vie\u0323\u0302t", "Vi\u1ec7t"),
        ("walrus \ud83e", "walrus \ufffd\ufffd\ufffd"),
        ("\ud83e\uddad", "\U0001f9ad"),
        ("\ufeffmark", "\ufeffmark"),
        ("\U0001f9ad e\u0301", "\U0001f9ad \u00e9"),
    ],
)
def test_one_form_of_every_text(came: str, kept: str) -> None:
    assert normalized(came) == kept
    assert normalized(kept) == kept
