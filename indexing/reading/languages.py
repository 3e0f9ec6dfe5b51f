"""The language of a file, by the suffix of its name."""

from pathlib import PurePosixPath

_LANGUAGES = {
    "bash": ".sh .bash .zsh",
    "c": ".c .h",
    "cpp": ".cc .cpp .cxx .hpp .hh",
    "csharp": ".cs",
    "css": ".css .scss .less",
    "go": ".go",
    "html": ".html .htm .xhtml",
    "java": ".java",
    "javascript": ".js .jsx .mjs .cjs",
    "json": ".json .jsonl",
    "kotlin": ".kt .kts",
    "lua": ".lua",
    "markdown": ".md .markdown .mdx",
    "php": ".php",
    "python": ".py .pyi",
    "r": ".r",
    "restructuredtext": ".rst",
    "ruby": ".rb",
    "rust": ".rs",
    "scala": ".scala",
    "sql": ".sql",
    "swift": ".swift",
    "tex": ".tex",
    "toml": ".toml",
    "tsx": ".tsx",
    "typescript": ".ts .mts .cts",
    "xml": ".xml .svg",
    "yaml": ".yaml .yml",
}
_LANGUAGE_OF = {suffix: language for language, suffixes in _LANGUAGES.items() for suffix in suffixes.split()}

PROSE = frozenset(["html", "markdown", "restructuredtext", "tex", "text"])
"""Languages of texts for people alone; the others are for machines too."""


def language_of(name: str) -> str:
    """The language of a file by its suffix, "text" for an unknown one.

    >>> language_of("src/main.RS"), language_of("LICENSE")
    ('rust', 'text')
    """
    return _LANGUAGE_OF.get(PurePosixPath(name).suffix.lower(), "text")
