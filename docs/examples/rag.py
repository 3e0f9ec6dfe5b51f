"""Ask a question of your documents: flatcoat finds the evidence, a language model words the answer.

The model is any server that speaks OpenAI's chat completions (vLLM, Ollama, llama.cpp, OpenAI itself):

    python rag.py "how are retries timed?" docs --url http://127.0.0.1:11434/v1 --model qwen3

The documents are indexed at the first question and brought up to date at every other. A key is read from
OPENAI_API_KEY.
"""

import argparse
import os
import sys
from pathlib import Path

import httpx

from flatcoat import FlatcoatError, Retriever
from flatcoat.retrieval.evidence import as_prompt

RULES = (
    "Answer from the excerpts alone, in a few sentences. Name the place of each fact as file:line in square "
    "brackets. Where the excerpts do not answer the question, say so."
)


def find(question: str, folder: Path, *, budget: int) -> str:
    """The lines of the documents that answer the question, in at most ``budget`` tokens."""
    index = folder.with_name(f"{folder.name}.index")
    retriever = Retriever.open(index) if index.exists() else Retriever.create(index)
    retriever.add_files(folder)
    return as_prompt(retriever.search(question, k=10, budget=budget))


def answer(question: str, evidence: str, *, url: str, model: str) -> str:
    """What the language model says to the question and the evidence."""
    messages = [
        {"role": "system", "content": RULES},
        {"role": "user", "content": f"Excerpts:\n\n{evidence}\n\nQuestion: {question}"},
    ]
    key = os.environ.get("OPENAI_API_KEY", "none")
    response = httpx.post(
        f"{url.rstrip('/')}/chat/completions",
        json={"model": model, "messages": messages, "temperature": 0},
        headers={"Authorization": f"Bearer {key}"},
        timeout=120,
    )
    response.raise_for_status()
    return response.json()["choices"][0]["message"]["content"]


def main() -> None:
    """Read the arguments, print the evidence and the answer."""
    parser = argparse.ArgumentParser(description="Ask a question of your documents.")
    parser.add_argument("question")
    parser.add_argument("folder", type=Path, help="Documents: a folder of text, Markdown, HTML, code, ...")
    parser.add_argument("--url", required=True, help="The language model's address, up to /v1.")
    parser.add_argument("--model", required=True, help="The language model's name at that address.")
    parser.add_argument("--budget", type=int, default=1500, help="Tokens of evidence.")
    options = parser.parse_args()
    try:
        evidence = find(options.question, options.folder, budget=options.budget)
        text = answer(options.question, evidence, url=options.url, model=options.model)
    except (FlatcoatError, httpx.HTTPError) as error:
        sys.exit(f"error: {error}")
    print(f"{evidence}\n\n{text}")


if __name__ == "__main__":
    main()
