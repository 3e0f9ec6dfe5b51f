"""What a server counts, in the text format of Prometheus, under the names of text-embeddings-inference.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterator, Sequence
from threading import Lock

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS = (16, 64, 256, 1024, 4096, 16384, 65536)


class Histogram:
    """Numbers counted by upper bounds.

    >>> histogram = Histogram("size", (1, 10))
    >>> histogram.observe(3)
    >>> list(histogram.lines(""))[1]
    'size_bucket{le="10"} 1'
    """

    def __init__(self, name: str, bounds: Sequence[float]) -> None:
        self.name = name
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a number."""
        place = next((at for at, bound in enumerate(self._bounds) if value <= bound), len(self._bounds))
        self._counts[place] += 1
        self._sum += value

    def lines(self, labels: str) -> Iterator[str]:
        """Its samples; ``labels`` are the other labels, each followed by a comma."""
        total = 0
        for bound, count in zip([*map(str, self._bounds), "+Inf"], self._counts, strict=True):
            total += count
            yield f'{self.name}_bucket{{{labels}le="{bound}"}} {total}'
        outer = f"{{{labels[:-1]}}}" if labels else ""
        yield f"{self.name}_sum{outer} {self._sum:.6f}"
        yield f"{self.name}_count{outer} {total}"


class Metrics:
    """Requests by route and status, their durations, and the batches that were encoded."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: dict[tuple[str, str, int], int] = {}
        self._durations: dict[str, Histogram] = {}
        self._batch_size = Histogram("te_batch_next_size", _SIZES)
        self._batch_tokens = Histogram("te_batch_next_tokens", _TOKENS)

    def note_request(self, method: str, route: str, status: int, *, seconds: float) -> None:
        """Count an answered request; ``route`` has placeholders where paths have names."""
        with self._lock:
            key = method, route, status
            self._requests[key] = self._requests.get(key, 0) + 1
            if route not in self._durations:
                self._durations[route] = Histogram("te_request_duration", _SECONDS)
            self._durations[route].observe(seconds)

    def note_batch(self, texts: int, tokens: int) -> None:
        """Count texts that were encoded together."""
        with self._lock:
            self._batch_size.observe(texts)
            self._batch_tokens.observe(tokens)

    def exposition(self, gauges: dict[str, float]) -> str:
        """All of it, and ``gauges`` as they are now."""
        with self._lock:
            return "\n".join([*self._lines(), *_gauge_lines(gauges), ""])

    def _lines(self) -> Iterator[str]:
        yield "# HELP te_request_count Requests that were answered."
        yield "# TYPE te_request_count counter"
        for (method, route, status), count in self._requests.items():
            yield f'te_request_count{{method="{method}",route="{route}",status="{status}"}} {count}'
        yield "# HELP te_request_duration Seconds from the request to the end of its answer."
        yield "# TYPE te_request_duration histogram"
        for route, histogram in self._durations.items():
            yield from histogram.lines(f'route="{route}",')
        for histogram, of in ((self._batch_size, "Texts"), (self._batch_tokens, "Tokens (estimated)")):
            yield f"# HELP {histogram.name} {of} that were encoded together."
            yield f"# TYPE {histogram.name} histogram"
            yield from histogram.lines("")


def _gauge_lines(gauges: dict[str, float]) -> Iterator[str]:
    described = ""
    for name, value in gauges.items():
        if (family := name.partition("{")[0]) != described:
            yield f"# TYPE {family} gauge"
            described = family
        yield f"{name} {value:g}"
