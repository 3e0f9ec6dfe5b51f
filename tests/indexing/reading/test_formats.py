"""Formats: the text, the lines and the outline of each, and the reason where there is none."""

import builtins
import json
import re
import time
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat.indexing.chunking.code import code_structure
from flatcoat.indexing.documents import Heading
from flatcoat.indexing.reading.extracted import Unreadable
from flatcoat.indexing.reading.readers import LONGEST_LINE, extract

GERMAN = "Die Größe der Straße überrascht, während Müller über die Brücke fährt.\n"
FRENCH = "Élève très doué, il a été reçu à l'école où l'on apprend le français.\n"
RUSSIAN = "Быстрая коричневая лиса перепрыгивает через ленивую собаку. Как дела?\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n"
CHINESE = "今天天气很好，我们一起去公园散步吧。学习中文是一件有趣的事情。\n"
POLISH = "Zażółć gęślą jaźń. W Szczebrzeszynie chrząszcz brzmi w trzcinie, a źdźbło trawy się chwieje.\n"
TURKISH = "Pijamalı hasta yağız şoföre çabucak güvendi. Işık, ağaç ve gökyüzü çok güzeldir.\n"
GREEK = "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Καλημέρα, τι κάνετε σήμερα το πρωί;\n"
HEBREW = "דג סקרן שט בים מאוכזב ולפתע מצא חברה. שלום, מה שלומך היום?\n"
ARABIC = "صباح الخير، كيف حالك اليوم؟ القطة نائمة على الكرسي في البيت الكبير.\n"
THAI = "สวัสดีครับ วันนี้อากาศดีมาก เราไปเดินเล่นในสวนสาธารณะกันเถอะ\n"
KOREAN = "안녕하세요. 오늘 날씨가 정말 좋네요. 같이 산책하러 갈까요?\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((text, encoding) for text in (GERMAN, RUSSIAN) for encoding in ("utf-8", "utf-8-sig", "utf-16")),
        (GERMAN, "utf-32"),
        (GERMAN, "latin-1"),
        (FRENCH, "cp1252"),
        ("def f(x):\n    # Prüft die Gültigkeit aller Einträge, überspringt leere.\n", "latin-1"),
        ("plain words " * 100_000 + "\n" + GERMAN, "latin-1"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (JAPANESE, "shift_jis"),
        (JAPANESE * 3, "euc_jp"),
        (CHINESE, "gbk"),
        (CHINESE.replace("兴", ""), "gb18030"),
        (KOREAN, "euc_kr"),
        *((POLISH, encoding) for encoding in ("cp1250", "iso8859_2", "cp852")),
        *((GERMAN + FRENCH, encoding) for encoding in ("cp850", "mac_roman")),
        *((RUSSIAN, encoding) for encoding in ("iso8859_5", "cp866")),
        *((GREEK, encoding) for encoding in ("cp1253", "iso8859_7")),
        (TURKISH, "cp1254"),
        (HEBREW, "cp1255"),
        (ARABIC, "cp1256"),
        (THAI, "cp874"),
        (JAPANESE, "iso2022_jp"),
        ("今天天氣很好，我們一起去公園散步吧。學習中文是一件有趣的事情。\n", "big5"),
        ("x = 1  # plain\n" * 300 + f"# {POLISH}", "cp1250"),
    ],
)
def test_encodings_are_told(text: str, encoding: str) -> None:
    assert extract("a.txt", text.encode(encoding)).text == text


@pytest.mark.parametrize(
    "data", [b"caf\xe9", b"\xff\xfe\x00", bytes(range(1, 256)) * 9, b"25\xb0 \xb1 2 \xb5m"]
)
def test_what_cannot_be_told_is_refused(data: bytes) -> None:
    with pytest.raises(Unreadable, match=r"unknown encoding|binary"):
        extract("a.txt", data)


def test_a_few_broken_bytes_cost_only_themselves() -> None:
    assert extract("a.txt", (GERMAN * 99).encode() + b"caf\xe9").text == GERMAN * 99 + "caf\ufffd"


def test_nul_outside_utf_16_is_binary() -> None:
    with pytest.raises(Unreadable, match="binary"):
        extract("a.py", b"x = '\0'")


@pytest.mark.parametrize("name", ["a.js", "a.css", "a.json", "a.py", "a.svg"])
def test_code_with_a_very_long_line_is_machine_written(name: str) -> None:
    line = "x=1;" * (LONGEST_LINE // 4)
    assert extract(name, f"a\n{line}\n{line}".encode()).text
    with pytest.raises(Unreadable, match="machine-written"):
        extract(name, f"a\n{line};\n".encode())


def test_a_line_that_is_too_long_is_cut_out_of_code_that_people_wrote() -> None:
    blob = "QUJD" * (LONGEST_LINE // 4)
    text = extract(
        "a.py", f'class Icon:\n    DATA = "{blob}"\n\n    def draw(self):\n        pass\n'.encode()
    ).text
    assert text == "class Icon:\n    …\n\n    def draw(self):\n        pass\n"
    structure = code_structure(text, "python")
    assert structure and [part.label for part in structure.parts] == ["Icon", "Icon.draw"]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "LICENSE", "a.html"])
def test_prose_keeps_very_long_lines(name: str) -> None:
    text = "word " * 30_000
    assert extract(name, text.encode()).text.strip() == text.strip()


PAGE = """<!DOCTYPE html>
<html><head><title>A &amp; B
 more</title><style>p {color: red}</style>
<script>if (a < b) document.write("<p>no</p>")</script></head>
<body><nav><a href="/">Home</a><h2>Menu</h2></nav>
<h1>
  Top&#10;of <em>it</em>
</h1>
<p>One<b>bold</b>,<br>two; a < b &lt; c</p><td>x</td><td>y</td>
<pre>
  def f():
      return 1
</pre><pre>exact  <b>spaces</b></pre><h3 class="x
y">Sub</h3>text<!-- c
d -->after
<nav>never closed &copy; &unknown;"""


def test_html_keeps_lines_headings_and_title() -> None:
    page = extract("a.html", PAGE.encode())
    assert page.title == "A & B more"
    assert page.lang == "html"
    assert page.outline == (Heading(7, 1, "Top of it"), Heading(14, 3, "Sub"))
    assert {number: line for number, line in enumerate(page.text.split("\n"), start=1) if line} == {
        7: "Top of it",
        9: "Onebold, two; a < b < c x y",
        11: "  def f():",
        12: "      return 1",
        13: "exact  spaces",
        14: "Sub text",
        15: "after",
        16: "never closed © &unknown;",
    }


@pytest.mark.parametrize(
    "drawing",
    [
        "<svg><title>icon</title></svg>",
        "<svg><g><title>a</title></g><title>b</title></svg>",
        "<template><title>x</title></template>",
    ],
)
def test_the_title_of_a_drawing_is_not_that_of_the_page(drawing: str) -> None:
    assert extract("a.html", f"{drawing}<p>text".encode()).title == ""
    page = extract("a.html", f"{drawing}<p>text<title>Page</title>{drawing}<title>late</title>".encode())
    assert (page.title, page.text) == ("Page", "text")


def test_a_page_with_a_title_alone_is_its_title() -> None:
    page = extract("a.html", b"<title>Walrus</title><div id=root></div>")
    assert (page.title, page.text.strip()) == ("Walrus", "")


def test_combining_marks_of_references_join_their_letters() -> None:
    page = extract("a.html", b"<title>re&#x301;sume&#x301;</title><h1>cafe&#769;</h1>")
    assert (page.title, page.text, page.outline[0].name) == ("r\u00e9sum\u00e9", "caf\u00e9", "caf\u00e9")


_TAGS = (
    "<p>",
    "</p>",
    "<b>",
    "<div\nid='a'>",
    "</div>",
    "<h2>",
    "</h2>",
    "<pre>",
    "</pre>",
    "<br/>",
    "<td x>",
)
_HTML_BITS = st.sampled_from([*_TAGS, "\n", "\r\n", " ", "<!-- gone -->", "&amp;", "&#10;"])
_WORDS = st.text(st.sampled_from("abcäé名"), min_size=1, max_size=5)


@given(st.lists(st.one_of(_HTML_BITS, _WORDS)))
def test_every_word_of_html_stays_on_its_line(bits: list[str]) -> None:
    source = "".join(bits) + "end"
    plain = re.sub(r"<!--.*?-->|<[^>]*>", lambda tag: "\n" * tag[0].count("\n"), source.replace("\r\n", "\n"))
    plain = plain.replace("&amp;", "&").replace("&#10;", " ")
    found = extract("a.html", source.encode()).text
    letters = [re.sub(r"\s", "", line) for line in found.split("\n")]
    assert letters == [re.sub(r"\s", "", line) for line in plain.split("\n")]


@pytest.mark.parametrize(
    "unit", ["<a ", "<!--", "</", "<?", "<div x='", "<!DOCTYPE [", "<![CDATA[", "<!--x>"]
)
def test_html_that_never_ends_is_left_out_in_little_time(unit: str) -> None:
    with pytest.raises(Unreadable, match="malformed HTML"):
        extract("a.html", unit.encode() * 30_000)


@pytest.mark.parametrize("unit", ["<nav>", "<h1>", "</pre>", "<pre>x</nav>", "<title>", "&", "x< "])
def test_html_nested_without_end_is_read_in_little_time(unit: str) -> None:
    assert "word" in extract("a.html", b"word " + unit.encode() * 30_000).text


@pytest.mark.parametrize(
    ("first", "unit", "last"), [("", "<div>", ""), ("<p ", "a=b ", ">"), ("", "<nav>x", "")]
)
def test_a_page_of_a_million_characters_takes_twice_as_long_as_half_of_it(
    first: str, unit: str, last: str
) -> None:
    def seconds(characters: int) -> float:
        page = f"word {first}{unit * (characters // len(unit))}{last} word"
        begin = time.process_time()
        assert "word" in extract("a.html", page.encode()).text
        return time.process_time() - begin

    # The quickest: others carry what else the machine did. Where it is quadratic it takes four times as long.
    half, whole = (min(seconds(length) for _ in range(3)) for length in (500_000, 1_000_000))
    assert whole < 3 * half + 0.5


def test_an_unclosed_comment_hides_nothing() -> None:
    assert extract("a.html", b"<p>one</p>\n<!-- two\nthree <b>four</b>").text.split("\n")[2] == "three four"


def test_malformed_declarations_are_refused() -> None:
    with pytest.raises(Unreadable, match="malformed HTML"):
        extract("a.html", b"text <![nonsense[ what ]]>")


def notebook(*cells: tuple[str, object], **metadata: object) -> bytes:
    listed = [{"cell_type": kind, "source": source, "outputs": [{"text": "no"}]} for kind, source in cells]
    return json.dumps({"nbformat": 4, "cells": listed, "metadata": metadata}).encode()


def test_a_notebook_gives_its_sources_and_headings() -> None:
    data = notebook(
        ("markdown", ["# Setup #\n", "words\n", "```\n", "# no heading\n", "```\n", "## Inner"]),
        ("code", "import numpy\r\n# no heading\nx = 1"),
        ("raw", ""),
        ("code", ["x"]),
        kernelspec={"language": "R"},
    )
    extracted = extract("a.ipynb", data)
    assert extracted.lang == "r"
    lines = extracted.text.split("\n")
    assert lines[7:10] == ["import numpy", "# no heading", "x = 1"]
    assert extracted.outline == (
        Heading(1, 7, "cell 1"),
        Heading(1, 1, "Setup"),
        Heading(6, 2, "Inner"),
        Heading(8, 7, "cell 2"),
        Heading(12, 7, "cell 3"),
        Heading(14, 7, "cell 4"),
    )
    assert lines[13] == "x"


def test_a_notebook_without_kernel_is_python() -> None:
    assert extract("a.ipynb", notebook(("code", "x"))).lang == "python"


def test_half_a_surrogate_pair_does_not_reach_the_text() -> None:
    assert extract("a.ipynb", notebook(("code", "a\ud800b\0"))).text == "a\ufffd\ufffd\ufffdb\ufffd"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "Expecting"),
        (b"[]", "a JSON object is needed, list came"),
        (b"3", "a JSON object is needed, int came"),
        (b"null", "a JSON object is needed, NoneType came"),
        (b"[" * 1_000_000, "nested too deep"),
        (b'{"cells": ' * 100_000, "nested too deep"),
        (b'{"worksheets": []}', "no list of cells"),
        (b'{"worksheets": [3, {"cells": null}]}', "no list of cells"),
        (b'{"cells": 3}', "no list of cells"),
        (b'{"nbformat": 4}', "no list of cells"),
    ],
)
def test_malformed_notebooks_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=f"malformed notebook: {reason}"):
        extract("a.ipynb", data)


_WALRUS = {"cell_type": "markdown", "source": ["# Walrus\n", "tusks"]}


@pytest.mark.parametrize(
    "cell",
    [
        None,
        3,
        "text",
        [],
        {},
        {"cell_type": "code", "metadata": {}},
        {"cell_type": "code", "source": None},
        {"cell_type": "code", "source": 3},
        {"cell_type": "code", "source": [None, 3, ["x"]]},
        {"cell_type": "heading", "level": "x", "source": None},
        {"cell_type": ["code"], "source": {}},
    ],
)
def test_an_odd_cell_costs_only_itself(cell: object) -> None:
    for cells in ([cell, _WALRUS], [_WALRUS, cell]):
        extracted = extract("a.ipynb", json.dumps({"nbformat": 4, "cells": cells, "metadata": {}}).encode())
        assert extracted.text.strip() == "# Walrus\ntusks"
        assert [heading.name for heading in extracted.outline if heading.level == 1] == ["Walrus"]


def test_odd_lines_cost_only_themselves() -> None:
    assert extract("a.ipynb", notebook(("code", ["x = 1\n", None, 3, "y = 2"]))).text == "x = 1\ny = 2"
    assert extract("a.ipynb", json.dumps({"cells": [{"source": "untyped"}]}).encode()).text == "untyped"


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        [],
        3,
        {"kernelspec": None},
        {"kernelspec": 3, "language_info": "r"},
        {"language_info": None},
        {"kernelspec": {"language": 3}, "language_info": {"name": None}},
    ],
)
def test_odd_metadata_is_passed_over(metadata: object) -> None:
    data = json.dumps({"nbformat": 4, "cells": [_WALRUS], "metadata": metadata}).encode()
    assert extract("a.ipynb", data).lang == "python"


def test_notebooks_before_nbformat_4_are_read() -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Tusks"]},
        {"cell_type": "code", "input": ["x <- 1\n", "y"], "language": "R", "outputs": [{"text": "no"}]},
    ]
    sheets = [{"cells": cells}, {"cells": [_WALRUS]}]
    extracted = extract("a.ipynb", json.dumps({"nbformat": 3, "worksheets": sheets, "metadata": {}}).encode())
    assert extracted.text == "## Tusks\n\nx <- 1\ny\n\n# Walrus\ntusks"
    assert [heading[:2] for heading in extracted.outline if heading.level < 7] == [(1, 2), (6, 1)]
    assert extracted.lang == "r"


def test_an_empty_notebook_is_empty() -> None:
    with pytest.raises(Unreadable, match="empty"):
        extract("a.ipynb", notebook(("code", "")))


def pdf(*pages: str) -> bytes:
    """A PDF with these lines on its pages."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    entries = DictionaryObject({NameObject(key): NameObject(value) for key, value in font.items()})
    reference = writer._add_object(entries)
    for page in pages:
        shown = " T* ".join(f"({line}) Tj" for line in page.split("\n"))
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 14 TL 72 700 Td {shown} ET".encode())
        added = writer.add_blank_page(600, 800)
        fonts = DictionaryObject({NameObject("/F1"): reference})
        added[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        added[NameObject("/Contents")] = writer._add_object(stream)
    return written(writer)


def written(writer) -> bytes:
    output = BytesIO()
    writer.write(output)
    return output.getvalue()


@pytest.mark.parametrize("name", ["a.pdf", "A.PDF", "stdin"])
def test_a_pdf_gives_its_pages(name: str) -> None:
    extracted = extract(name, pdf("first line\nsecond line", "", "third page"))
    assert extracted.text == "first line\nsecond line\nthird page"
    assert extracted.outline == (Heading(1, 1, "page 1"), Heading(3, 1, "page 3"))
    assert extracted.lang == "text"


def test_an_encrypted_pdf_is_refused() -> None:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf("secret"))))
    writer.encrypt("user", "owner", algorithm="RC4-128")
    with pytest.raises(Unreadable, match="an encrypted PDF"):
        extract("a.pdf", written(writer))


@pytest.mark.parametrize("cut", [0, 1, 9, 200, 400, 600])
def test_a_broken_pdf_is_refused(cut: int, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Unreadable, match="PDF"):
        extract("a.pdf", pdf("text")[:cut])
    assert not caplog.records


@given(st.lists(st.tuples(st.integers(0, 2_000), st.binary(min_size=1, max_size=4)), max_size=20))
def test_a_damaged_pdf_is_read_or_refused(changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(pdf("some text", "more text"))
    for at, wrong in changes:
        data[at : at + len(wrong)] = wrong
    try:
        assert extract("a.pdf", bytes(data)).text
    except Unreadable as error:
        assert str(error)


def test_a_pdf_that_repeats_itself_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatcoat.indexing.reading.pdf._MOST_TEXT", 10)
    assert extract("a.pdf", pdf("12345", "12345")).text
    with pytest.raises(Unreadable, match="over 10 characters"):
        extract("a.pdf", pdf("12345", "12345", "1"))


def test_a_pdf_of_pictures_is_refused() -> None:
    with pytest.raises(Unreadable, match="scanned"):
        extract("a.pdf", pdf(""))


def test_a_missing_pypdf_names_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def refuse(name: str, *arguments, **options):
        if name.startswith("pypdf"):
            raise ImportError(name)
        return imported(name, *arguments, **options)

    data = pdf("x")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(Unreadable, match=r"pip install flatcoat\[pdf\]"):
        extract("a.pdf", data)


@given(st.sampled_from(["a.html", "a.ipynb", "a.pdf", "a.txt", "a.py"]), st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(name: str, data: bytes) -> None:
    try:
        extracted = extract(name, data)
    except Unreadable as error:
        assert str(error)
    else:
        extracted.text.encode()
        assert extracted.text.strip()
        assert not set(extracted.text) & {"\0", "\r"}
        assert all(1 <= h.line <= extracted.text.count("\n") + 1 for h in extracted.outline)
