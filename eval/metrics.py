"""Measures of ranked results, computed by trec_eval itself through pytrec_eval.

A run is query id -> document id -> score, qrels are query id -> document id -> grade (relevant from 1 on).
Scores are compared as float32, the greater document id wins a tie, and the gain of nDCG is linear: as BEIR,
CoIR and mteb report it. Source: https://github.com/usnistgov/trec_eval
"""

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple, TypeAlias

import numpy as np
import pytrec_eval

from flatcoat.errors import DataError, UsageError

Run: TypeAlias = Mapping[str, Mapping[str, float]]
Qrels: TypeAlias = Mapping[str, Mapping[str, int]]

MEASURES = ("ndcg@10", "map", "recall@100", "mrr@10")
"""Measured by default, the main one first."""

KNOWN = "ndcg, ndcg@k, map, map@k, mrr, mrr@k, recall@k, precision@k, success@k"

_WHOLE = {"ndcg": "ndcg", "map": "map", "mrr": "recip_rank"}
_CUT = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "success": "success"}
_TITLES = {"ndcg": "nDCG", "map": "MAP", "mrr": "MRR", "f1": "F1"}  # of families; others are capitalised
_LARGEST_SCORE = float(np.finfo(np.float32).max)


class Scores(NamedTuple):
    """``per_query``: query id -> measure -> value in 0..1. ``mean``: measure -> mean over judged queries."""

    per_query: dict[str, dict[str, float]]
    mean: dict[str, float]


class _Measure(NamedTuple):
    trec: str
    cutoff: int | None = None

    def read(self, values: Mapping[str, float]) -> float:
        value = values[self.trec.replace(".", "_")]
        # trec_eval cuts every measure but the reciprocal rank, which is itself 1 / rank
        return 0.0 if self.cutoff and value < 1 / self.cutoff else value


def title_of(measure: str) -> str:
    """The name of a measure as papers print it.

    >>> [title_of(measure) for measure in ("ndcg@10", "map", "recall@100", "f1")]
    ['nDCG@10', 'MAP', 'Recall@100', 'F1']
    """
    family, *cutoff = measure.split("@")
    return "@".join([_TITLES.get(family, family.capitalize()), *cutoff])


def evaluate(run: Run, qrels: Qrels, *, measures: Sequence[str] = MEASURES) -> Scores:
    """Score a run on every judged query; a judged query missing from the run scores 0.

    Raises UsageError for an unknown measure, DataError for a score that is not a finite float32 (the query
    is named) and for qrels without judgements.

    >>> evaluate({"q": {"a": 2.0, "b": 1.0}}, {"q": {"b": 1}}, measures=["mrr@10"]).mean
    {'mrr@10': 0.5}
    """
    parsed = {measure: _parse(measure) for measure in measures}
    # trec_eval may loop for ever on a query with negative grades only; these measures read them as 0
    judged = {
        query: {document: max(int(grade), 0) for document, grade in grades.items()}
        for query, grades in qrels.items()
        if grades
    }
    if not judged:
        raise DataError("the qrels judge no query: there is nothing to measure")
    complete = {query: finite_scores(query, run.get(query, {})) for query in judged}
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {measure.trec for measure in parsed.values()})
    values = evaluator.evaluate(complete)
    per_query = {
        query: {name: measure.read(values[query]) for name, measure in parsed.items()} for query in judged
    }
    mean = {name: fmean(row[name] for row in per_query.values()) for name in parsed}
    return Scores(per_query, mean)


def finite_scores(query: str, scores: Mapping[str, float]) -> dict[str, float]:
    """The scores of one query as Python floats; DataError for a score that is not a finite float32."""
    converted = {document: float(score) for document, score in scores.items()}
    for document, score in converted.items():
        if not abs(score) <= _LARGEST_SCORE:
            raise DataError(
                f"query {query!r}, document {document!r}: the score {score} is not a finite float32"
            )
    return converted


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Document ids of one query, best first, in trec_eval's order."""
    values = np.fromiter(scores.values(), dtype=np.float32, count=len(scores)).tolist()
    return [document for _, document in sorted(zip(values, scores, strict=True), reverse=True)]


def drop_self_hits(run: Run) -> dict[str, dict[str, float]]:
    """The run without documents whose id is the query's, as BEIR and CoIR measure."""
    return {
        query: {document: score for document, score in scores.items() if document != query}
        for query, scores in run.items()
    }


def _parse(measure: str) -> _Measure:
    match = re.fullmatch(r"([a-z]+)(?:@([1-9][0-9]*))?", measure)
    family, cutoff = match.groups() if match else ("", None)
    if cutoff is None and family in _WHOLE:
        return _Measure(_WHOLE[family])
    if cutoff is not None and family in _CUT:
        return _Measure(f"{_CUT[family]}.{cutoff}")
    if cutoff is not None and family == "mrr":
        return _Measure("recip_rank", int(cutoff))
    raise UsageError(f"unknown measure {measure!r}: known are {KNOWN}")
