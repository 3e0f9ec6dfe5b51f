"""The server that people write first: sentence-transformers, called for each request in its thread."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import semantic_search


def peer_app(model: SentenceTransformer, texts: list[str]) -> FastAPI:
    """Embeddings as OpenAI has them, and search by the inner products of all vectors."""
    app = FastAPI()
    corpus = model.encode(texts, convert_to_tensor=True, normalize_embeddings=True)

    @app.post("/v1/embeddings")
    def embeddings(body: dict[str, Any]) -> dict[str, Any]:
        vectors = model.encode([body["input"]], normalize_embeddings=True, show_progress_bar=False)
        return {"data": [{"index": 0, "embedding": vectors[0].tolist()}]}

    @app.post("/search")
    def search(body: dict[str, Any]) -> dict[str, Any]:
        query = model.encode(
            [body["query"]], convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
        )
        (hits,) = semantic_search(query, corpus, top_k=10)
        return {"results": [{"text": texts[int(hit["corpus_id"])], "score": hit["score"]} for hit in hits]}

    return app


def main() -> None:
    """Serve the model and the texts that the command line names, on a free port."""
    folder, texts = sys.argv[1:]
    app = peer_app(SentenceTransformer(folder, device="cpu"), json.loads(Path(texts).read_text()))
    logging.basicConfig(level=logging.INFO)
    uvicorn.run(app, host="127.0.0.1", port=0, log_config=None, access_log=False)


if __name__ == "__main__":
    main()
