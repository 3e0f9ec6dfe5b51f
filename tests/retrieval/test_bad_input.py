"""Whatever an application or a shell passes on, what comes back is an answer or an error of one line."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from flatcoat import Document, FlatcoatError, Retriever
from flatcoat.indexing.filters.condition import Condition, Not, Or
from flatcoat.retrieval.encoders.load import load_encoder

MakeFolder = Callable[..., Path]

loose = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
short = settings(loose, max_examples=60)
deep = settings(loose, max_examples=3_000)

texts = st.text(max_size=30) | st.text("ab=<>!^~,\"'\\ \n\0\ud800e\u0301", max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(max_size=5)
anything = st.recursive(
    scalars, lambda some: st.lists(some, max_size=3) | st.dictionaries(texts, some, max_size=2), max_leaves=4
)
conditions = texts | st.builds(Condition, anything, st.sampled_from(["=", "<", "in", "^="]) | texts, anything)
conditions |= st.builds(Not, conditions) | st.builds(
    Or, st.lists(conditions, max_size=2).map(tuple) | anything
)
conditions |= st.dictionaries(st.sampled_from(["n", "$or", "$not"]) | texts, anything, max_size=2)
searches = st.fixed_dictionaries(
    {"query": st.just("cats") | texts | st.none()},
    optional={
        "k": st.integers() | anything,
        "where": anything | conditions | st.lists(conditions, max_size=3),
        "regex": texts | anything,
        "fixed": texts | anything,
        "case": st.sampled_from(["smart", "ignore"]) | anything,
        "recall": st.floats() | anything,
        "mode": st.sampled_from(["vectors", "bm25", "hybrid"]) | anything,
        "rerank": scalars,
        "group": st.booleans(),
        "explain": st.booleans(),
    },
)
documents = st.builds(Document, texts | anything, texts | anything, texts, st.dictionaries(texts, anything))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad input")


@pytest.fixture(scope="module")
def retriever(place: Path, make_colbert: MakeFolder) -> Iterator[Retriever]:
    retriever = Retriever.create(place / "i.index", load_encoder(make_colbert(), device="cpu"))
    retriever.add([Document("cats", "cats purr", metadata={"n": 1}), Document("dogs", "dogs bark at cats")])
    yield retriever
    retriever.close()


def answers(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The answer, or None where there is an error of one line."""
    try:
        return call(*arguments, **options)
    except FlatcoatError as error:
        assert str(error).strip()
        assert "\n" not in str(error)
        str(error).encode()
        return None


def check_search(retriever: Retriever, options: dict[str, Any]) -> None:
    found = answers(retriever.search, **options)
    assert found is None or {result.document_id for result in found} <= {"cats", "dogs"}


def check_documents(retriever: Retriever, came: Any) -> None:
    before = retriever.info().documents
    added = answers(retriever.add, came)
    if added is not None:
        ids = list(retriever.store.document_hashes())
        assert retriever.remove([id for id in ids if id not in ("cats", "dogs")]) == len(ids) - 2
    assert retriever.info().documents == before


@short
@given(searches)
def test_any_search_is_answered_or_refused(retriever: Retriever, options: dict[str, Any]) -> None:
    check_search(retriever, options)


@pytest.mark.slow
@deep
@given(searches)
def test_any_search_is_answered_or_refused_at_length(retriever: Retriever, options: dict[str, Any]) -> None:
    check_search(retriever, options)


@short
@given(anything | st.lists(documents, max_size=3) | documents)
def test_any_documents_are_added_or_refused(retriever: Retriever, came: Any) -> None:
    check_documents(retriever, came)


@pytest.mark.slow
@deep
@given(anything | st.lists(documents, max_size=3) | documents)
def test_any_documents_are_added_or_refused_at_length(retriever: Retriever, came: Any) -> None:
    check_documents(retriever, came)


@short
@given(anything | st.lists(anything, max_size=3))
def test_any_ids_are_removed_or_refused(retriever: Retriever, ids: Any) -> None:
    assert answers(retriever.remove, ids) in (None, 0)


@short
@given(anything)
def test_what_is_no_index_or_source_is_refused(retriever: Retriever, path: Any) -> None:
    assert answers(Retriever.open, path) is None
    assert answers(retriever.forget, path) is None


@short
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "passage_tokens": anything,
            "overlap": anything,
            "precision": anything,
            "index": anything | st.sampled_from(["auto", "exact", "plaid", "faiss"]),
        },
    )
)
def test_an_index_is_made_or_refused(place: Path, retriever: Retriever, options: dict[str, Any]) -> None:
    if made := answers(Retriever.create, place / "new.index", retriever.encoder, **options):
        made.close()
        shutil.rmtree(place / "new.index")
    assert not (place / "new.index").exists()


@short
@given(
    st.sampled_from(["search", "remove", "forget"]),
    texts,
    st.lists(
        st.tuples(st.sampled_from(["-k", "--where", "--recall", "--mode"]), texts | st.integers().map(str)),
        max_size=3,
    ),
)
def test_any_command_line_ends_well(
    place: Path, retriever: Retriever, command: str, argument: str, options: list[tuple[str, str]]
) -> None:
    from flatcoat.__main__ import app

    line = [
        command,
        *(part for option in options for part in option),
        "--index",
        str(place / "i.index"),
        argument,
    ]
    if command == "search" and not any(option == "--mode" for option, _ in options):
        line[1:1] = ["--mode", "bm25"]
    done = CliRunner().invoke(app, line)
    assert done.exception is None or isinstance(done.exception, SystemExit | FlatcoatError), line
    assert done.exit_code in (0, 1, 2)
