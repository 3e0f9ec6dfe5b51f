"""The OpenAPI description, and requests made up from it."""

from typing import Any

import pytest

_SEEDS = 20


def described(server: Any) -> dict[str, Any]:
    return server.client.get("/openapi.json").json()


def test_every_api_is_described(server: Any) -> None:
    paths = described(server)["paths"]
    assert {
        "/indexes/{index}/search",
        "/indexes/{index}/documents",
        "/v1/embeddings",
        "/v1/vector_stores/{index}/search",
        "/v2/embed",
        "/v2/rerank",
        "/v1/multi-vector",
        "/embed_all",
        "/info",
        "/health",
        "/metrics",
    } <= paths.keys()
    assert "/" not in paths


@pytest.mark.slow
def test_no_request_that_fits_the_description_makes_a_500(server: Any) -> None:
    """schemathesis, if it is installed: valid and invalid requests alike, to indexes that are there."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings

    description = described(server)
    for operations in description["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "index":
                    parameter["schema"] = {"enum": ["late", "dense"]}
    for schema in description["components"]["schemas"].values():
        if "model" in schema.get("properties", {}):
            schema["properties"]["model"] = {"enum": ["late", "dense", "flatcoat-minilm"]}
    schema = schemathesis.openapi.from_dict(description)
    schema.config.update(base_url=server.address)
    asked, key = 0, server.client.headers["authorization"]
    for found in schema.get_all_operations():
        operation = found.ok()
        if "documents" in operation.path:  # The server is shared: its documents stay.
            continue
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            try:
                strategy = operation.as_strategy(generation_mode=mode)
            except Exception:  # Nothing can be wrong with a request that takes nothing.
                continue

            @settings(
                max_examples=_SEEDS,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=strategy)
            def ask(case: Any) -> None:
                nonlocal asked
                asked += 1
                answer = case.call(headers={"authorization": key, "host": "localhost"})
                assert answer.status_code < 500, (case.as_curl_command(), answer.text)

            try:
                ask()
            except schemathesis.errors.SchemathesisError:
                continue
            except Exception as error:
                if type(error).__name__ in ("Unsatisfiable", "SkipTest"):
                    continue
                raise
    print(f"{asked} requests")
    assert asked > 200
    assert "Traceback" not in server.log.read_text()
