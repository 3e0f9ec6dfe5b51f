"""Shards that are searched together give what one index gives: passages, scores, order and explanations."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flatcoat.errors import UsageError
from flatcoat.indexing.bm25 import Statistics
from flatcoat.indexing.collection.manifest import shard_of
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.fusion import Fusion
from flatcoat.indexing.plaid import index as plaid
from flatcoat.indexing.plaid.codec import Codec
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.terms import index_terms, query_terms
from flatcoat.indexing.vectors import TokenVectors
from flatcoat.retrieval.distributed.shards import Member, Shards, merged
from flatcoat.retrieval.question import Question
from flatcoat.retrieval.results import Result
from flatcoat.retrieval.search import Searcher
from flatcoat.retrieval.shard import SHARD_BITS, Ranking, RankingRequest, Shard, StoreShard

from ..folders import HashEncoder

WORDS = ["cat", "dog", "river", "bridge", "bread", "yeast", "sky", "light", "wave", "forest"]
KINDS = {"exact": "colbert", "dense": "dense", "plaid": "colbert"}
ENCODERS = {kind: HashEncoder(kind) for kind in ("colbert", "dense")}
MODES: list[Any] = ["vectors", "bm25", "hybrid", Fusion("rrf"), Fusion("weighted", weight=0.4)]

Texts = dict[str, list[str]]
"""The passages of each document."""


@dataclass(frozen=True)
class Lengths:
    """A reranker that prefers long texts, and those with more letters of the query."""

    name: str = "lengths"

    def describe(self) -> dict[str, Any]:
        return {}

    def scorer(self, queries: Sequence[str]) -> Any:
        def score(texts: Sequence[str], pairs: np.ndarray) -> np.ndarray:
            scores = [len(texts[text]) % 7 + len(set(queries[q]) & set(texts[text])) for q, text in pairs]
            return np.array(scores, np.float32)

        return score


def passages_of(documents: Texts) -> list[Passage]:
    return [
        Passage(id, text, "", (line, line), {"n": len(parts), "even": len(id) % 2 == 0, f"own {id}": 1})
        for id, parts in documents.items()
        for line, text in enumerate(parts, start=1)
    ]


def fill(store: Store, documents: Texts, removed: Sequence[str], codec: Codec | None, kind: str) -> None:
    """Add documents in several commits, and remove some of them again.

    They come in the order of their ids: of equal scores at the end of a list of candidates an index takes
    those that were added first.
    """
    with store.writer() as writer:
        if codec:
            writer.give_codec(codec)
        ids = list(documents)
        for some in (ids[: len(ids) // 2], ids[len(ids) // 2 :]):
            if passages := passages_of({id: documents[id] for id in some}):
                writer.add(passages, ENCODERS[kind].encode_documents([one.searchable for one in passages]))
                writer.commit()
        writer.remove([id for id in removed if id in documents])


@contextmanager
def indexes(
    documents: Texts, removed: Sequence[str], *, shards: int, engine: str
) -> Iterator[tuple[Shard, Shard]]:
    """The documents in one index, and in several shards."""
    kind, settings = KINDS[engine], EngineSettings("exact")
    contract = {"encoder": {"kind": kind}}
    codec = None
    if engine == "plaid":
        tokens = ENCODERS[kind].encode_documents([text for parts in documents.values() for text in parts])
        assert isinstance(tokens, TokenVectors)
        codec = Codec.train(tokens.values_TD, len(tokens.values_TD), centroids=4)
    with TemporaryDirectory() as folder, ExitStack() as opened:
        one = opened.enter_context(Store.create(Path(folder) / "one", contract, engine=settings))
        fill(one, documents, removed, codec, kind)
        members = []
        for shard in range(shards):
            store = opened.enter_context(Store.create(Path(folder) / f"{shard}", contract, engine=settings))
            own = {id: parts for id, parts in documents.items() if shard_of(id, shards) == shard}
            fill(store, own, removed, codec, kind)
            members.append(Member(StoreShard(store, shard), frozenset([shard])))
        yield StoreShard(one), Shards("many", members)


def search(shard: Shard, question: Question, kind: str) -> list[Result]:
    encoder = ENCODERS[kind]
    count: Any = encoder.token_counts
    return Searcher(shard, lambda: encoder, lambda: encoder, count_tokens=count).search(question)


texts = st.lists(st.sampled_from(WORDS), min_size=0, max_size=4).map(" ".join)
corpora = st.dictionaries(
    st.text("abxyz", min_size=1, max_size=3), st.lists(texts, min_size=1, max_size=3), max_size=14
)
questions = st.fixed_dictionaries(
    {
        "query": st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join),
        "k": st.integers(1, 12),
        "mode": st.sampled_from(MODES),
        "group": st.booleans(),
        "explain": st.booleans(),
        "rerank": st.sampled_from([None, Lengths()]),
        "where": st.sampled_from([(), "n>=2 or not n exists", "not (even=true)", "own_a exists or n exists"]),
        "fixed": st.sampled_from([None, None, "cat"]),
    }
)


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    corpora,
    st.lists(st.text("abxyz", min_size=1, max_size=3), max_size=4),
    st.sampled_from([1, 2, 5]),
    st.sampled_from(list(KINDS)),
    st.lists(questions, min_size=3, max_size=6),
)
def test_shards_give_what_one_index_gives(
    documents: Texts, removed: list[str], shards: int, engine: str, asked: list[dict[str, Any]]
) -> None:
    if engine == "plaid" and not any(text for parts in documents.values() for text in parts):
        documents = {**documents, "c": ["cat"]}  # A codec is of some tokens.
    with indexes(dict(sorted(documents.items())), removed, shards=shards, engine=engine) as (one, many):
        for values in asked:
            try:
                expected = search(one, Question(**values), KINDS[engine])
            except UsageError:
                with pytest.raises(UsageError, match="no document has a field"):
                    search(many, Question(**values), KINDS[engine])
                continue
            assert search(many, Question(**values), KINDS[engine]) == expected


def drawn(count: int, seed: int = 0, repeated: float = 0.3) -> Texts:
    """Documents of a passage each, a share of them exact duplicates of others."""
    random = np.random.default_rng(seed)
    made: Texts = {}
    for number in range(count):
        copied = made and random.random() < repeated
        text = str(random.choice([one[0] for one in made.values()])) if copied else ""
        made[f"d{number:04d}"] = [text or " ".join(random.choice(WORDS, 9))]
    return made


@pytest.mark.parametrize("shards", [2, 5])
@pytest.mark.parametrize("engine", list(KINDS))
def test_many_passages_with_duplicates_across_shards(engine: str, shards: int) -> None:
    documents = drawn(250)
    with indexes(documents, list(documents)[::9], shards=shards, engine=engine) as (one, many):
        for mode in MODES:
            for query in ("cat at the river", "forest wave", "dog"):
                question = Question(query, 10, mode=mode, explain=True)
                found = search(many, question, KINDS[engine])
                assert found == search(one, question, KINDS[engine])
                assert found or mode == "bm25"


def test_without_a_query_documents_are_listed_by_their_ids() -> None:
    with indexes(drawn(60), (), shards=5, engine="dense") as (one, many):
        for group in (False, True):
            question = Question(None, 25, where="n=1", group=group)
            listed = search(many, question, "dense")
            assert listed == search(one, question, "dense")
            assert [result.document_id for result in listed] == [f"d{n:04d}" for n in range(25)]


def test_a_filter_on_a_field_of_one_shard_alone_is_no_error() -> None:
    with indexes(drawn(20), (), shards=5, engine="dense") as (one, many):
        question = Question("cat", 5, where={"own d0007": 1})
        assert search(many, question, "dense") == search(one, question, "dense") != []
        with pytest.raises(UsageError, match="no document has a field 'colour'"):
            search(many, Question("cat", 5, where="colour=red"), "dense")


def test_pruned_candidates_never_score_lower_than_those_of_one_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plaid, "_CANDIDATES", 4)
    monkeypatch.setattr(plaid, "_CANDIDATES_PER_RESULT", 1)
    higher = 0
    with indexes(drawn(400, repeated=0.0), (), shards=5, engine="plaid") as (one, many):
        for words in ("cat river", "forest wave light", "dog bread", "yeast sky bridge"):
            request = RankingRequest(None, ENCODERS["colbert"].encode_queries([words]), 100)
            ours, theirs = many.rank(request).vectors, one.rank(request).vectors
            assert ours and theirs and len(ours.rows) == len(theirs.rows) == 100
            assert (ours.scores >= theirs.scores).all()
            higher += int((ours.scores > theirs.scores).sum())
    assert higher  # Otherwise nothing was pruned.


def test_statistics_are_those_of_a_loop_over_all_texts() -> None:
    documents = drawn(80)
    gone = list(documents)[::3]
    with indexes(documents, gone, shards=5, engine="dense") as (one, many):
        left = [index_terms(parts[0]) for id, parts in documents.items() if id not in gone]
        terms = query_terms("cats and dogs")
        counts = {term: sum(term in text for text in left) for term in terms}
        expected = Statistics(len(left), sum(map(len, left)), counts)
        assert many.statistics("cats and dogs").bm25 == one.statistics("cats and dogs").bm25 == expected


def test_shards_of_shards_are_shards() -> None:
    with indexes(drawn(60), (), shards=5, engine="dense") as (one, many):
        assert isinstance(many, Shards)
        nodes = [
            Member(Shards("node", some), frozenset().union(*(member.numbers for member in some)))
            for some in (many.members[:2], many.members[2:])
        ]
        question = Question("cat at the river", 10, explain=True)
        assert search(Shards("all", nodes), question, "dense") == search(one, question, "dense")


def test_equal_scores_are_merged_by_document_and_line() -> None:
    row = 1 << SHARD_BITS
    one = Ranking([3, 4], np.array([2, 1], np.float32), [("b", 1), ("c", 9)])
    other = Ranking([row + 1, row + 2], np.array([2, 1], np.float32), [("a", 7), ("c", 3)])
    assert merged([one, None, other], 3).rows == [row + 1, 3, row + 2]
    assert merged([], 3).rows == []
