"""Languages whose code is cut by syntax: a tree-sitter grammar each, and a query for what it defines.

A query (``queries/*.scm``) captures nodes under these names; where several match a node, the last one counts:

    @function @class @module @value @test   a definition of this kind, named by the @name in the same pattern,
                                            behind an @owner where there is one; @definition has no name
    @attached            belongs to what comes after it, as comments do: attributes, signatures
    @header              imports and the like, which stand above the definitions
    @docs                a documentation of the file
    @exported @hidden    a definition that can, or cannot be used from elsewhere
    @exported.name       the name of a definition that is exported
    @public @private     the visibility of what is inside, and of what follows beside it
    @injection           code in another language, which the pattern sets as ``language``

In languages whose query has an @exported, a definition is hidden unless captured so; in others it is exported
unless captured as @hidden. Captures that begin with an underscore serve the pattern alone.
"""

import logging
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from tree_sitter import Language, Query
    from tree_sitter_language_pack import SupportedLanguage

_QUERIES = {
    **{lang: (lang,) for lang in ("bash", "c", "clojure", "cmake", "csharp", "dart", "elixir", "erlang")},
    **{lang: (lang,) for lang in ("go", "haskell", "java", "julia", "kotlin", "lua", "make", "nix", "ocaml")},
    **{lang: (lang,) for lang in ("ocaml_interface", "perl", "php", "proto", "python", "r", "ruby", "rust")},
    **{lang: (lang,) for lang in ("scala", "sql", "starlark", "svelte", "swift", "terraform", "vue", "zig")},
    "cpp": ("c", "cpp"),
    "hcl": ("terraform",),
    "javascript": ("ecmascript", "javascript"),
    "objc": ("c", "objc"),
    "tsx": ("ecmascript", "typescript"),
    "typescript": ("ecmascript", "typescript"),
}
"""The files of the query of each language."""

_SEPARATORS = dict.fromkeys(["cpp", "perl", "php", "rust"], "::")
LANGUAGES = tuple(sorted(_QUERIES))


class Grammar(NamedTuple):
    """How to parse a language and to find what a text in it defines."""

    language: "Language"
    query: "Query"
    separator: str
    """Between the names of a class and of its method."""
    visible: bool
    """Whether definitions are exported that say nothing of it."""


@cache
def grammar(lang: object) -> Grammar | None:
    """The grammar of a language, or None where there is none.

    >>> grammar("rust").separator, grammar("markdown")
    ('::', None)
    """
    if lang not in _QUERIES:
        return None
    from tree_sitter import Query
    from tree_sitter_language_pack import get_language

    name = cast("SupportedLanguage", lang)
    try:
        language = get_language(name)
    except LookupError as error:
        logging.getLogger(__name__).warning("%s is cut by lines, not by syntax: %s", lang, error)
        return None
    texts = (
        files("flatcoat.indexing.chunking").joinpath("queries", f"{part}.scm").read_text("utf-8")
        for part in _QUERIES[name]
    )
    query = Query(language, "\n".join(texts))
    captures = {query.capture_name(number) for number in range(query.capture_count)}
    return Grammar(language, query, _SEPARATORS.get(name, "."), not captures & {"exported", "exported.name"})
