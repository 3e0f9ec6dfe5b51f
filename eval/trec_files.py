"""TREC run files, and files of the scores per query, from which significance is tested.

A run line is ``qid Q0 docid rank score tag``: what trec_eval, pyserini and ir_measures read.
"""

import json
from pathlib import Path

import numpy as np

from flatcoat.errors import DataError

from .metrics import Run, Scores, finite_scores, ranked


def write_run(path: Path, run: Run, *, tag: str) -> None:
    """Write a TREC run, ranks from 1 in trec_eval's order; scores keep every digit of a float32.

    Raises DataError for a tag or id that is empty or holds white space, and for a score that is not finite.
    """
    _check_word("tag", tag)
    with path.open("w", encoding="utf-8") as file:
        for query, scores in run.items():
            _check_word("query id", query)
            scores = finite_scores(query, scores)
            for rank, document in enumerate(ranked(scores), start=1):
                _check_word("document id", document)
                # nine significant digits identify a float32
                file.write(f"{query} Q0 {document} {rank} {np.float32(scores[document]):.9g} {tag}\n")


def read_run(path: Path) -> dict[str, dict[str, float]]:
    """Read a TREC run; as in trec_eval, neither the order of lines nor the ranks count.

    Raises DataError naming the line without six fields or a numeric score, or with a repeated document.
    """
    run: dict[str, dict[str, float]] = {}
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                query, _, document, _, score, _ = line.split()
                value = float(score)
            except ValueError:
                raise DataError(f"{path}:{number} is not 'qid Q0 docid rank score tag'") from None
            scores = run.setdefault(query, {})
            if document in scores:
                raise DataError(f"{path}:{number} repeats document {document!r} for query {query!r}")
            scores[document] = value
    return run


def write_per_query(path: Path, scores: Scores) -> None:
    """Write the measures of every query: one object per query in a ``.json`` file, else TSV with a header."""
    if path.suffix == ".json":
        path.write_text(json.dumps(scores.per_query, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return
    lines = ["\t".join(["query-id", *scores.mean])]
    lines += ["\t".join([query, *map(str, row.values())]) for query, row in scores.per_query.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_per_query(path: Path) -> dict[str, dict[str, float]]:
    """Read the TSV of ``write_per_query``; DataError names a line that does not fit the header."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if not lines:
        raise DataError(f"{path} is missing or empty: it should hold the measures of every query")
    measures = lines[0].split("\t")[1:]
    per_query: dict[str, dict[str, float]] = {}
    for number, line in enumerate(lines[1:], start=2):
        query, *values = line.split("\t")
        try:
            per_query[query] = dict(zip(measures, map(float, values), strict=True))
        except ValueError:
            raise DataError(f"{path}:{number} is not 'query-id {' '.join(measures)}'") from None
    return per_query


def _check_word(what: str, word: str) -> None:
    if word.split() != [word]:
        raise DataError(f"the {what} {word!r} is empty or holds white space: a TREC run cannot carry it")
