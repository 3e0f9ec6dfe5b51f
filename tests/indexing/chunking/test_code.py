"""Code cut by syntax: what is a unit, what it is called, and that nothing hostile gets through slowly."""

import gc
import re
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat.indexing.chunking import code
from flatcoat.indexing.chunking.chunk import chunk
from flatcoat.indexing.chunking.structure import label
from flatcoat.indexing.documents import Document

PYTHON = '''\
"""A store."""
import os

LIMIT = 1


# opens things
@cache
def open_all(a, b):
    return [a, b]


class Store(Base):
    """Keeps a thing."""

    size = 1

    def open(self):
        """Open it."""
        first = self.one()
        second = self.two()

        for each in first:
            print(each)
        return second

    # closes it
    @property
    def close(self):
        def inner():
            return 1

        return inner
'''


def words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def cut(text: str, lang: str, limit: int) -> list[tuple[str, tuple[int, int]]]:
    passages = chunk(Document("d", text, metadata={"lang": lang}), words, max_tokens=limit)
    lines = text.split("\n")
    assert all(p.text == "\n".join(lines[p.lines[0] - 1 : p.lines[1]]) for p in passages)
    assert "".join("".join(p.text for p in passages).split()) == "".join(text.split())
    return [(passage.section, passage.lines) for passage in passages]


def test_python_by_methods() -> None:
    assert cut(PYTHON, "python", 20) == [
        ("open_all", (1, 10)),
        ("Store", (13, 16)),
        ("Store.open", (18, 25)),
        ("Store.close", (27, 33)),
    ]


def test_a_class_that_fits_is_one_passage() -> None:
    assert cut(PYTHON, "python", 40) == [("open_all", (1, 10)), ("Store", (13, 33))]


def test_a_large_body_is_cut_at_its_statements_under_its_name() -> None:
    pieces = cut(PYTHON, "python", 12)
    assert [place for name, place in pieces if name == "Store.open"] == [(18, 21), (23, 25)]
    assert {name for name, (first, _) in pieces if first >= 27} == {"Store.close"}


def test_small_neighbours_share_a_passage_and_are_all_named() -> None:
    text = "\n\n".join(f"def function_{i}():\n    return {i}" for i in range(12))
    names = [name for name, _ in cut(text, "python", 26)]
    assert names == [", ".join(f"function_{i}" for i in range(n, n + 4)) for n in (0, 4, 8)]


def test_long_qualified_names_lose_their_outer_parts() -> None:
    assert label(["A" * 40, "B" * 30, "c"], ".") == "B" * 30 + ".c"
    assert label(["A" * 80], ".") == "A" * 59 + "…"


SOURCES = {
    "javascript": """\
// doc
export class Store extends Base {
  size = 1;
  /** opens */
  open(a) {
    return a;
  }
}

const run = async (a) => {
  await a();
};

module.exports.stop = function () {
  return 1;
};
Store.prototype.late = function () {
  return 2;
};
""",
    "typescript": """\
@Dec()
export abstract class Store {
  @Log()
  open(a: number): void {
    x();
  }
}
interface Shape {
  a: number;
}
type Name = {
  b: string;
};
""",
    "tsx": """\
export function View(props: P) {
  return (
    <div>
      {props.a}
    </div>
  );
}
""",
    "go": """\
package x

// Store keeps.
type Store[T any] struct {
	a T
}

// Open it.
func (s *Store[T]) Open() error {
	return nil
}

func Run() {
	go()
}
""",
    "java": """\
package a;

/** doc */
@A
public class Store {
  int x;

  Store() {
    x = 1;
  }

  @Override
  public int open(int a) {
    return 1;
  }
}
""",
    "rust": """\
/// Doc
#[derive(Debug)]
pub struct Store<T> {
  a: T,
}

impl<T> Open for Store<T> {
  /// doc
  fn open(&self) -> T {
    self.a
  }
}

mod tests {
  fn run() {
    x();
  }
}
""",
    "c": """\
#ifndef A
#define A
/* doc */
static int *
open_it(int a,
        int b)
{
  return 0;
}

typedef struct node {
  int a;
} Node;

struct store {
  int a;
};
#endif
""",
    "cpp": """\
namespace a {
template <class T>
class Store : public B {
 public:
  Store() {
    x();
  }
  T &get() {
    return x;
  }
};

template <class T>
int Store<T>::open(int a) {
  return 1;
}
}
""",
    "ruby": """\
module A
  # doc
  class Store < Base
    def open(a)
      a
    end

    def self.make
      1
    end
  end
end
""",
    "php": """\
<?php
namespace A;
/** doc */
class Store extends B {
  public function open($a) {
    return 1;
  }
}
function run() {
  return 1;
}
""",
    "csharp": """\
namespace A {
  /// doc
  [A]
  public class Store {
    public int X { get;
      set; }
    public int Open(int a) {
      return 1;
    }
  }
}
""",
}
NAMES = {
    "javascript": "Store Store.open run stop Store.late",
    "typescript": "Store Store.open Shape Name",
    "tsx": "View",
    "go": "Store Store.Open Run",
    "java": "Store Store.Store Store.open",
    "rust": "Store Store Store::open tests tests::run",
    "c": "open_it Node store",
    "cpp": "Store Store::Store Store::get Store::open",
    "ruby": "A A.Store A.Store.open A.Store.make",
    "php": "Store Store::open run",
    "csharp": "Store Store.X Store.Open",
}


@pytest.mark.parametrize("lang", SOURCES)
def test_names_of_definitions(lang: str) -> None:
    text = SOURCES[lang]
    structure = code.code_structure(text, lang)
    assert structure is not None
    assert [part.label for part in structure.parts] == NAMES[lang].split()
    lines = text.split("\n")
    for part in structure.parts:
        assert re.search(r"\w", lines[part.last]) or lines[part.last].strip()[0] in "})"
    cut(text, lang, 12)


@pytest.mark.parametrize("lang", SOURCES)
def test_decorators_and_comments_stay_with_what_they_are_about(lang: str) -> None:
    text = SOURCES[lang]
    starts = {first for _, (first, _) in cut(text, lang, 13)}
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(r"\s*(//|/\*\*|/\* |# \w|@|#\[|\[A\])", line):
            assert number + 1 not in starts, line


def test_lines_are_exact_where_characters_are_not_bytes() -> None:
    text = (
        "# ü€😀\ndef grüße():\n    '''ßß😀'''\n    return 'é'\n\n\n"
        "class Ж:\n    def 名(self):\n        return 1\n"
    )
    assert cut(text, "python", 9) == [("grüße", (1, 4)), ("Ж", (7, 9))]


def test_broken_code_still_has_passages() -> None:
    broken = PYTHON.replace("def open(self):", "def open(self:").replace("[a, b]", "[a, b")
    names = " ".join(name for name, _ in cut(broken, "python", 14))
    assert "Store" in names or "open_all" in names


@settings(max_examples=150, deadline=None)
@given(
    lang=st.sampled_from(sorted(SOURCES)),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    limit=st.integers(20, 60),
)
def test_any_shreds_of_code_are_covered(lang: str, cuts: list[int], limit: int) -> None:
    text = SOURCES[lang]
    for place in cuts:
        text = text[place % (len(text) + 1) :] + "\n" + text[: place // 2]
    cut(text, lang, limit)


def test_without_a_grammar_code_is_cut_by_lines() -> None:
    assert code.code_structure("sub run()", "fortran") is None
    by_lines = cut(PYTHON, "fortran", 20)
    assert [name for name, _ in by_lines] == [""] * len(by_lines)
    assert (18, 25) in [lines for _, lines in by_lines]


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("x = 1\n" * 200_000, "python"),
        ("\n".join(" " * i + "if x:" for i in range(700)), "python"),
        ("{\n" * 300 + "}\n" * 300, "javascript"),
        ("template<" * 40_000, "csharp"),
        ("/*(" * 10_000, "c"),
        ("`" * 100_000, "scala"),
        ("(" * 200_000, "kotlin"),
        ("<script>" + "{" * 200_000 + "</script>", "vue"),
    ],
    ids=[
        "large",
        "indents",
        "braces",
        "unclosed types",
        "unclosed comments",
        "unclosed names",
        "broken",
        "broken script",
    ],
)
def test_hostile_code_is_cut_by_lines_soon(text: str, lang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "MAX_SECONDS", 0.5)
    begin = time.process_time()
    assert code.code_structure(text, lang) is None
    cut(text, lang, 300)
    assert time.process_time() - begin < 5


def test_long_chains_and_operators_do_not_exhaust_the_stack() -> None:
    text = "x = 'a'" + " +\\\n    'b'" * 3_000 + "\ny = z" + "\\\n  .f(1)" * 3_000
    assert len(cut(text, "python", 50)) > 100


def test_texts_that_were_parsed_are_let_go_of() -> None:
    text = PYTHON * 200
    code.code_structure(text, "python")
    tracemalloc.start()
    try:
        for _ in range(5):
            code.code_structure(text, "python")
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < len(text)
