"""Ranking signals, one by one and in a search."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import Document, Passage
from flatcoat.indexing.fusion import HYBRID, HYBRID_CODE, Fusion
from flatcoat.indexing.reading.content import content_of
from flatcoat.indexing.reading.languages import language_of
from flatcoat.retrieval.ranking import RANKED, SIGNALS, Query, apply_signals
from flatcoat.retrieval.retriever import Retriever


def passage(path: str, text: str = "x", *, section: str = "", **metadata: str) -> Passage:
    lang = language_of(path)
    own = {"path": path, "lang": lang, "content": content_of(path, lang)}
    return Passage(path, text, path, metadata={**own, **metadata}, section=section)


def order(
    query: str, passages: Sequence[Passage], *, signals: Sequence[str], scores: Sequence[float] = ()
) -> list[int]:
    """The places of the passages, best first."""
    given = list(scores) or [1.0] * len(passages)
    ranked = [one[RANKED] for one in apply_signals(query, passages, scores=given, signals=signals)]
    return sorted(range(len(passages)), key=lambda place: -ranked[place])


@pytest.mark.parametrize(
    ("query", "symbols"),
    [
        ("backoff", ("backoff",)),
        ("Store.open", ("Store.open",)),
        ("get_user()", ("get_user",)),
        ("how does Store.open take the lock", ("Store.open",)),
        ("what calls getUserName?", ("getUserName",)),
        ("use of std::sort and _private", ("std::sort", "_private")),
        ("where is HTTPClient defined", ("HTTPClient",)),
        ("Where are Retries counted?", ()),
    ],
)
def test_the_symbols_of_a_query(query: str, symbols: tuple[str, ...]) -> None:
    assert Query(query).symbols == symbols


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("a.py", "def backoff(n):"),
        ("a.py", "    async def backoff(self):"),
        ("a.py", "class backoff:"),
        ("a.js", "export default async function backoff (n) {"),
        ("a.js", "const backoff = (n) => n"),
        ("a.js", "  backoff: function (n) {"),
        ("a.js", "Retry.prototype.backoff = function () {"),
        ("a.ts", "export type backoff = number"),
        ("a.go", "func (r *Retry) backoff(n int) int {"),
        ("a.go", "type backoff struct {"),
        ("a.rs", "    pub(crate) fn backoff(&self) -> u8 {"),
        ("A.java", "    public static int backoff(int n) throws IOException {"),
        ("a.c", "static int backoff(int n)"),
        ("a.c", "#define backoff(n) (n)"),
        ("a.cpp", "int Retry::backoff(int n) const {"),
        ("a.rb", "  def backoff"),
        ("a.php", "    private function backoff(): int"),
        ("a.lua", "local function backoff(n)"),
        ("a.lua", "function Retry:backoff(n)"),
        ("a.sh", "backoff() {"),
        ("a.pl", "sub backoff {"),
        ("a.kt", "fun backoff(n: Int) = n"),
        ("a.scala", "  def backoff(n: Int): Int = n"),
        ("a.swift", "  func backoff(n: Int) {"),
        ("a.ex", "  defp backoff(n) do"),
        ("a.proto", "message backoff {"),
    ],
)
def test_definitions_rise_above_uses(path: str, line: str) -> None:
    uses = passage("b" + path[1:], "  wait(backoff(3));\n  x = obj.backoff(4)\n  // the backoff (see above)")
    defines = passage(path, f"// a comment\n{line}\n")
    assert order("backoff", [uses, defines], signals=["definition"]) == [1, 0]
    gain = apply_signals("backoff", [uses, defines], scores=[1, 1], signals=["definition"])
    assert "definition" not in gain[0] and gain[1]["definition"] == 1.0


def test_a_symbol_in_a_sentence_counts_less_than_alone() -> None:
    both = [passage("a.py", "def get_user(): ..."), passage("b.py", "get_user()")]
    alone, within = (
        apply_signals(query, both, scores=[1, 1], signals=["definition"])[0]["definition"]
        for query in ("get_user", "who calls get_user first")
    )
    assert alone > within > 0


def test_the_owner_of_a_symbol_counts() -> None:
    passages = [
        passage("a.py", "def open(self): ...", section="Archive.open"),
        passage("b.py", "def open(self): ...", section="Store.open"),
    ]
    assert order("Store.open", passages, signals=["definition"]) == [1, 0]


def test_words_of_the_path_match_by_their_beginning() -> None:
    passages = [passage("src/client.py"), passage("src/retry.py"), passage("src/other.py")]
    assert order("retrying of requests", passages, signals=["path"])[0] == 1
    passages = [passage("http/a.py"), passage("auth/b.py")]
    assert order("authentication by token", passages, signals=["path"])[0] == 1


def test_a_common_word_of_paths_counts_less_than_a_rare_one() -> None:
    passages = [*(passage(f"src/http_{part}.py") for part in ("a", "b", "c", "d")), passage("src/cookie.py")]
    assert order("http cookie", passages, signals=["path"])[0] == 4


def test_several_good_passages_of_a_file_add_up() -> None:
    passages = [passage("a.py"), passage("b.py", "1"), passage("b.py", "2")]
    assert order("x", passages, scores=[1.0, 0.95, 0.9], signals=["file"]) == [1, 0, 2]


@pytest.mark.parametrize(
    ("path", "asking"),
    [
        ("tests/test_retry.py", "tests of the retry"),
        ("examples/retry.py", "an example of a retry"),
        ("vendor/retry.py", "the vendored retry"),
        ("compat/retry.py", "legacy retry"),
        ("docs/retry.md", "documentation of the retry"),
        ("CHANGELOG.md", "changelog of retry"),
        ("retry.yaml", "yaml for retry"),
        ("retry.pyi", "type stubs of retry"),
        ("retry/__init__.py", "what does the package retry export"),
    ],
)
def test_what_is_beside_the_code_sinks_unless_the_query_asks_for_it(path: str, asking: str) -> None:
    passages = [passage(path), passage("src/wait.py")]
    assert order("how does a retry wait", passages, scores=[1.0, 0.9], signals=["content"]) == [1, 0]
    assert order(asking, passages, scores=[1.0, 0.9], signals=["content"]) == [0, 1]


def test_headers_sink() -> None:
    passages = [passage("a.c", kind="header"), passage("b.c", kind="function")]
    assert order("retry", passages, scores=[1.0, 0.9], signals=["header"]) == [1, 0]
    assert order("retry includes", passages, scores=[1.0, 0.9], signals=["header"]) == [0, 1]


def test_further_passages_of_a_file_count_half() -> None:
    passages = [passage("a.py", text) for text in ("1", "2", "3")]
    ranked = apply_signals("x", passages, scores=[4, 4, 4], signals=["spread"])
    assert [one[RANKED] for one in ranked] == [1.0, 0.5, 0.25]


PROSE = [
    Passage("a", "def get_user"),
    Passage("b", "get_user", metadata={"lang": "en", "path": "tests/a.py"}),
]


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2))
def test_prose_keeps_its_scores(scores: list[float]) -> None:
    docs = [passage("docs/a.md", "def get_user"), passage("README.md", "get_user")]
    for passages in (PROSE, docs):
        assert apply_signals("get_user", passages, scores=scores) == [{}, {}]


@given(st.lists(st.integers(1, 10**6), min_size=4, max_size=4), st.sampled_from([2.0, 1024.0]))
def test_the_unit_of_scores_does_not_matter(scores: list[int], factor: float) -> None:
    passages = [passage(path, "def retry(): ...") for path in ("a.py", "retry.py", "tests/a.py", "a.md")]
    one = apply_signals("retry", passages, scores=scores)
    other = apply_signals("retry", passages, scores=[factor * score for score in scores])
    assert one == other


def test_the_contributions_of_the_signals_add_up() -> None:
    passages = [passage("tests/retry.py", "def retry(): ..."), passage("retry.py", "retry()", kind="header")]
    for score, changes in zip([0.5, 1.0], apply_signals("retry", passages, scores=[2, 4]), strict=True):
        *names, last = changes
        assert last == RANKED and list(names) == [name for name in SIGNALS if name in names]
        assert score + sum(changes[name] for name in names) == pytest.approx(changes[RANKED])


def test_scores_may_be_equal_or_missing() -> None:
    assert apply_signals("x", [], scores=[]) == []
    assert apply_signals("x", [passage("a.py")], scores=[0.0], signals=["path"]) == [{RANKED: 1.0}]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    root = tmp_path_factory.mktemp("project")
    files = {
        "src/wait.py": "def backoff(attempt):\n    return 2 ** attempt\n",
        "tests/test_wait.py": "def test_backoff():\n    backoff = 1\n    assert backoff\n",
        "README.md": "# Waiting\n\nbackoff waits longer and longer, backoff by backoff.\n",
        "settings.toml": "[backoff]\nbase = 2\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    retriever = Retriever.create(root.parent / "index")
    retriever.add_files(root)
    return retriever


@pytest.mark.parametrize("mode", ["hybrid", "bm25", "vectors"])
def test_a_search_puts_the_definition_first(project: Retriever, mode: str) -> None:
    first, *others = project.search("backoff", mode=mode)  # type: ignore[arg-type]
    assert first.document_id == "src/wait.py"
    assert first.score == first.scores[RANKED] and first.scores["definition"] > 0
    assert [result.score for result in others] == sorted((result.score for result in others), reverse=True)


def test_signals_can_be_chosen(project: Retriever) -> None:
    assert all(RANKED not in result.scores for result in project.search("backoff", signals=()))
    scores = [result.scores for result in project.search("backoff", signals=["content"])]
    assert {"content", RANKED} <= {name for names in scores for name in names}
    assert not {"definition", "path"} & {name for names in scores for name in names}
    with pytest.raises(UsageError, match="no ranking signal 'colour': definition, path"):
        project.search("backoff", signals=["colour"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [("docs", {"README.md"}), ("config", {"settings.toml"}), ("code", {"src/wait.py", "tests/test_wait.py"})],
)
def test_content_restricts_results(project: Retriever, content: str, expected: set[str]) -> None:
    assert {result.document_id for result in project.search("backoff", content=content)} == expected  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="content is 'prose': code, docs, config, all are possible"):
        project.search("backoff", content="prose")  # type: ignore[arg-type]


def test_code_is_fused_otherwise_than_text(project: Retriever, tmp_path: Path) -> None:
    def scores(retriever: Retriever, mode: Fusion | str) -> list[float]:
        return [one.scores["fused"] for one in retriever.search("backoff waits", mode=mode, signals=())]  # type: ignore[arg-type]

    assert scores(project, "hybrid") == scores(project, HYBRID_CODE) != scores(project, HYBRID)
    prose = Retriever.create(tmp_path / "index")
    prose.add(
        Document(name, f"{name} waits for a backoff, and {name} returns") for name in ("Ann", "Ben", "Cy")
    )
    assert scores(prose, "hybrid") == scores(prose, HYBRID) != scores(prose, HYBRID_CODE)


def test_a_moved_file_keeps_what_it_is_for(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "docs").mkdir(parents=True)
    (root / "docs" / "a.py").write_text("def backoff(): ...\n")
    retriever = Retriever.create(tmp_path / "index")
    retriever.add_files(root)
    assert [result.metadata["content"] for result in retriever.search("backoff")] == ["docs"]
    (root / "docs" / "a.py").rename(root / "a.py")
    retriever.add_files()
    (result,) = retriever.search("backoff")
    assert (result.document_id, result.metadata["content"]) == ("a.py", "code")
