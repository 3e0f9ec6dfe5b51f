"""Requests of strangers, broken clients and attackers: each is clearly refused, and none is our error."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from flatcoat.retrieval.serving.app import create_app
from flatcoat.retrieval.serving.context import Context
from flatcoat.retrieval.serving.indexes import Served, named_folders
from flatcoat.retrieval.serving.metrics import Metrics
from flatcoat.retrieval.serving.server import listening, make_server
from flatcoat.retrieval.serving.settings import Settings

SEARCH = "/indexes/late/search"


def ask(server: Any, request: bytes, *, wait: float = 20) -> bytes:
    """The answer to bytes on the wire."""
    address = urlsplit(server.address)
    with socket.create_connection((address.hostname, address.port), timeout=wait) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def head(server: Any, method: str, path: str, *headers: str) -> bytes:
    key = server.client.headers["authorization"]
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"authorization: {key}", "connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": 7},
        {"query": None},
        {"query": ["a"]},
        {"query": ""},
        {"query": " \n"},
        {"query": "a", "k": 0},
        {"query": "a", "k": -1},
        {"query": "a", "k": 10**9},
        {"query": "a", "k": "5"},
        {"query": "a", "k": 5.5},
        {"query": "a", "k": True},
        {"query": "a", "mode": "magic"},
        {"query": "a", "where": "lang=python"},
        {"query": "a", "where": [1]},
        {"query": "a", "where": ["no operator"]},
        {"query": "a", "where": ["a=b"] * 1000},
        {"query": "a", "recall": 2},
        {"query": "a", "rerank": "../../../etc"},
        {"query": "a", "model": "org/evil"},
        {"query": "a" * 60_000},
        [],
        "text",
        None,
    ],
    ids=lambda body: json.dumps(body)[:40],
)
def test_wrong_values_are_named(server: Any, body: Any) -> None:
    answer = server.post(SEARCH, body)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (SEARCH, {"query": " "}, "query: it is empty"),
        (SEARCH, {"query": "a", "where": ["a=b", [1]]}, "where.1: Input should be a valid string"),
        (SEARCH, {"query": "a", "content": "films"}, "content: Input should be 'code', 'docs' or 'config'"),
        ("/indexes/late/documents", {"documents": [{"id": "a"}]}, "documents.0.text: Field required"),
    ],
)
def test_the_place_of_a_mistake_is_that_in_the_body(server: Any, path: str, body: Any, message: str) -> None:
    assert server.post(path, body).json()["error"]["message"] == message


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (b'{"query" "a"}', "application/json", r"the body is no JSON: .*':'.*, at character 9"),
        (b'{"query": "a"}', "text/plain", "no JSON came: .* content-type: application/json"),
        (b"", "application/json", "no JSON came"),
    ],
)
def test_what_is_no_json_is_told_so(server: Any, text: bytes, kind: str, message: str) -> None:
    answer = server.client.post(SEARCH, content=text, headers={"content-type": kind})
    assert re.match(message, answer.json()["error"]["message"])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"query": "a"',
        b"\xff\xfe",
        b'{"query": "\\ud800"}',
        b'{"query": NaN, "input": NaN, "inputs": NaN}',
        b'{"query": "a", "k": 1' + b"0" * 5000 + b"}",
        b"[" * 100_000,
        b'{"query": ' * 100_000,
        b'{"filters": {"type": "and", "filters": [' * 50_000,
    ],
    ids=lambda text: repr(text[:30]),
)
@pytest.mark.parametrize(
    "path", [SEARCH, "/v1/embeddings", "/v2/rerank", "/embed", "/v1/vector_stores/late/search"]
)
def test_malformed_json(server: Any, text: bytes, path: str) -> None:
    answer = server.client.post(path, content=text, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text


def test_a_filter_as_deep_as_a_well(server: Any) -> None:
    filters: dict[str, Any] = {"key": "year", "type": "eq", "value": 1871}
    for depth in range(1, 400):
        filters = {"type": "or", "filters": [filters]}
        if depth in (6, 20, 49, 51, 100, 399):
            answer = server.post("/v1/vector_stores/late/search", {"query": "sky", "filters": filters})
            assert answer.status_code == (200 if depth < 50 else 400), answer.text


def test_json_must_say_that_it_is_json(server: Any) -> None:
    """A form or a script of another site can only send text/plain without being asked first."""
    answer = server.client.post(SEARCH, content=b'{"query": "a"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 422


def test_another_site_reads_nothing(server: Any) -> None:
    asked = server.client.options(
        SEARCH, headers={"origin": "https://evil.example", "access-control-request-method": "POST"}
    )
    assert asked.status_code == 405
    answer = server.client.get("/indexes", headers={"origin": "https://evil.example"})
    assert not [name for name in (*asked.headers, *answer.headers) if name.startswith("access-control")]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]"])
def test_a_name_pointed_at_this_machine_is_refused(server: Any, host: str) -> None:
    answer = server.client.get("/indexes", headers={"host": host})
    assert answer.status_code == 400
    assert "does not go by the name" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic dGhlLWtleS1vZi10aGUtdGVzdHM="},
        {"authorization": "Bearer the-key-of-the-test"},
        {"authorization": "Bearer \xe9"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/indexes"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("POST", SEARCH),
        ("POST", "/v1/embeddings"),
        ("POST", "/v2/rerank"),
        ("POST", "/embed"),
        ("GET", "/no/such/path"),
    ],
)
def test_strangers_get_401(server: Any, headers: dict[str, str], method: str, path: str) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = server.client.request(method, path, headers=encoded, content=b"{}")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "API key" in answer.text


def test_the_page_and_health_need_no_key(server: Any) -> None:
    import httpx

    for path in ("/", "/web/app.js", "/web/style.css", "/health"):
        assert httpx.get(server.address + path, trust_env=False).status_code == 200
        asked = httpx.head(server.address + path, trust_env=False)  # As monitors do.
        assert asked.status_code == 200 and not asked.content


@pytest.mark.parametrize(
    "path",
    [
        "/web/../app.py",
        "/web/%2e%2e/app.py",
        "/web/..%2fapp.py",
        "/web//etc/passwd",
        "//etc/passwd",
        "/../../../../etc/passwd",
        "/indexes/..%2f..%2fetc",
        "/indexes/%00",
        "/indexes/late/../../etc",
        "/v1/models/../../../etc/passwd",
        "/v1/models/%2Fetc%2Fpasswd",
    ],
)
def test_no_path_leads_out(server: Any, path: str) -> None:
    answer = ask(server, head(server, "GET", path))
    assert answer.split()[1] in (b"404", b"405"), answer[:300]
    assert b"root:" not in answer and b"create_app" not in answer


def test_errors_do_not_tell_where_things_are(server: Any, folders: dict[str, Path]) -> None:
    texts = [
        server.post("/v1/embeddings", {"input": "a", "model": "none"}).text,
        server.post("/v1/vector_stores/dense/search", {"query": "a", "filters": 1}).text,
        server.client.get("/indexes").text,
        server.client.get("/v1/models").text,
        server.client.get("/info").text,
    ]
    for folder in folders.values():
        assert str(folder.parent) not in "".join(texts)


def test_too_large_is_said_at_once(server: Any) -> None:
    request = head(server, "POST", SEARCH, "content-type: application/json", f"content-length: {1 << 40}")
    assert ask(server, request).startswith(b"HTTP/1.1 413")


def test_too_large_in_chunks(server: Any) -> None:
    request = head(server, "POST", SEARCH, "content-type: application/json", "transfer-encoding: chunked")
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    address = urlsplit(server.address)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        with suppress(OSError):  # The server may have closed its side, after its answer.
            connection.sendall(request + chunk * 17)
        assert connection.recv(12) == b"HTTP/1.1 413"


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 200_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=lambda request: repr(request[:40]),
)
def test_what_is_no_http(server: Any, request_: bytes) -> None:
    assert ask(server, request_).startswith(b"HTTP/1.1 4")


def test_too_many_tokens_and_texts(server: Any) -> None:
    long = "cats purr " * 2000
    many = server.post("/v1/multi-vector", {"input": [long] * 1990})
    assert many.status_code == 413, many.text[:200]
    assert server.post("/v1/embeddings", {"model": "dense", "input": ["a"] * 2049}).status_code == 413


def test_the_server_still_answers(server: Any) -> None:
    assert server.process.poll() is None
    assert server.post(SEARCH, {"query": "cats"}).status_code == 200
    assert "Traceback" not in server.log.read_text()


class Impatient:
    """A server in this process that waits for a third of a second."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(header_seconds=0.3, body_seconds=0.3)
        metrics = Metrics()
        served = Served(named_folders([f"late={folder}"]), settings, metrics=metrics)
        app = create_app(Context(served, settings, metrics=metrics))
        at = listening("127.0.0.1", 0)
        self.server = make_server(app, settings)
        self.thread = threading.Thread(target=self.server.run, args=[[at]])
        self.thread.start()
        self.address = f"http://127.0.0.1:{at.getsockname()[1]}"

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture(scope="module")
def impatient(folders: dict[str, Path]) -> Iterator[Impatient]:
    server = Impatient(folders["late"])
    yield server
    server.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"GET /health HT",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-a: b\r\n",
        b"POST /embed_all HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
        b"POST /embed_all HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
    ids=["nothing", "half a line", "half a head", "half a body", "half a chunked body"],
)
def test_who_is_slow_gets_408(impatient: Impatient, request_: bytes) -> None:
    started = time.perf_counter()
    answer = ask(impatient, request_)
    assert answer.startswith(b"HTTP/1.1 408"), answer
    assert time.perf_counter() - started < 10


def test_a_byte_now_and_then_does_not_help(impatient: Impatient) -> None:
    address = urlsplit(impatient.address)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        try:
            for byte in b"GET /health HTTP/1.1\r\nhost: localhost\r\n" * 3:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
        except OSError:
            pass  # The server has closed its side, after its answer.
        else:
            pytest.fail("the server took bytes for over two seconds")


def test_a_connection_that_is_kept_is_not_cut_while_it_is_used(impatient: Impatient) -> None:
    import httpx

    with httpx.Client(base_url=impatient.address, trust_env=False) as client:
        for _ in range(4):
            assert client.get("/health").status_code == 200
            time.sleep(0.2)


def test_the_body_of_an_answer_waits_for_no_acknowledgement_of_its_head() -> None:
    with closing(listening("127.0.0.1", 0)) as at, socket.create_connection(at.getsockname()):
        connection, _ = at.accept()
        with closing(connection):
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
