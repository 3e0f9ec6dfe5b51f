"""The language of a file: by its name, its suffix, or the program that its first line names."""

import re
from pathlib import PurePosixPath

_LANGUAGES = {
    "bash": ".sh .bash .zsh .ksh .bats .bashrc .bash_profile .zshrc .profile",
    "c": ".c .h",
    "clojure": ".clj .cljs .cljc .edn",
    "cmake": ".cmake CMakeLists.txt",
    "cpp": ".cc .cpp .cxx .c++ .hpp .hh .hxx .h++ .inl .ipp .cu .cuh",
    "csharp": ".cs .csx",
    "css": ".css .scss .less",
    "dart": ".dart",
    "dockerfile": ".dockerfile Dockerfile Containerfile",
    "elixir": ".ex .exs",
    "erlang": ".erl .hrl",
    "go": ".go",
    "groovy": ".groovy .gradle Jenkinsfile",
    "haskell": ".hs",
    "hcl": ".hcl",
    "html": ".html .htm .xhtml",
    "java": ".java",
    "javascript": ".js .jsx .mjs .cjs",
    "json": ".json .jsonl",
    "julia": ".jl",
    "kotlin": ".kt .kts",
    "lua": ".lua .rockspec",
    "make": ".mk .mak Makefile makefile GNUmakefile",
    "markdown": ".md .markdown .mdx",
    "nix": ".nix",
    "objc": ".m .mm",
    "ocaml": ".ml",
    "ocaml_interface": ".mli",
    "perl": ".pl .pm .t .psgi cpanfile",
    "php": ".php .phtml",
    "powershell": ".ps1 .psm1",
    "proto": ".proto",
    "python": ".py .pyi .pyw SConstruct SConscript wscript",
    "r": ".r .Rprofile",
    "restructuredtext": ".rst",
    "ruby": ".rb .rake .gemspec config.ru Rakefile Gemfile Vagrantfile Podfile Brewfile Guardfile Capfile",
    "rust": ".rs",
    "scala": ".scala .sc .sbt",
    "sql": ".sql",
    "starlark": ".bzl .star .bazel BUILD WORKSPACE Tiltfile",
    "svelte": ".svelte",
    "swift": ".swift",
    "terraform": ".tf .tfvars",
    "tex": ".tex",
    "toml": ".toml",
    "tsx": ".tsx",
    "typescript": ".ts .mts .cts",
    "vue": ".vue",
    "xml": ".xml .svg",
    "yaml": ".yaml .yml",
    "zig": ".zig .zon",
}
"""Suffixes, and whole names of files."""

_INTERPRETERS = {
    "bash": "sh bash dash ash ksh zsh bats",
    "clojure": "clojure bb",
    "elixir": "elixir",
    "erlang": "escript",
    "groovy": "groovy",
    "haskell": "runhaskell runghc stack",
    "javascript": "node nodejs bun",
    "julia": "julia",
    "lua": "lua luajit",
    "make": "make gmake",
    "ocaml": "ocaml",
    "perl": "perl",
    "php": "php",
    "powershell": "pwsh",
    "python": "python pypy uv",
    "r": "rscript",
    "ruby": "ruby jruby",
    "scala": "scala",
    "swift": "swift",
    "typescript": "deno tsx ts-node",
}
_LANGUAGE_OF = {name: language for language, names in _LANGUAGES.items() for name in names.split()}
_INTERPRETED = {name: language for language, names in _INTERPRETERS.items() for name in names.split()}
# "#!/usr/bin/env -S LANG=C python3.12 -u": the first word that is neither an option nor a setting.
_PROGRAM = re.compile(r"#!\s*(?:\S*/)?(?:env\s+(?:(?:-\S+|\w+=\S*)\s+)*(?:\S*/)?)?([A-Za-z][A-Za-z-]*)")

PROSE = frozenset(["html", "markdown", "restructuredtext", "tex", "text"])
"""Languages of texts for people alone; the others are for machines too."""


def language_of(name: str, first_line: str = "") -> str:
    """The language of a file by its name or suffix, else by the program in its first line, else "text".

    >>> language_of("src/main.RS"), language_of("Makefile"), language_of("LICENSE")
    ('rust', 'make', 'text')
    >>> language_of("bin/serve", "#!/usr/bin/env -S node --watch")
    'javascript'
    """
    path = PurePosixPath(name)
    suffix = path.suffix if path.suffix else path.name  # ".bashrc" is all name
    known = _LANGUAGE_OF.get(path.name) or _LANGUAGE_OF.get(suffix) or _LANGUAGE_OF.get(suffix.lower())
    if known or not first_line.startswith("#!"):
        return known or "text"
    program = _PROGRAM.match(first_line)
    return _INTERPRETED.get(program[1].lower().rstrip("-"), "text") if program else "text"
