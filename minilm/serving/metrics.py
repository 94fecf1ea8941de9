"""Counters, gauges and histograms in Prometheus's text format, under text-embeddings-inference's names."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Sequence

Labels = tuple[tuple[str, str], ...]

FAILURES = ("batch_size", "dropped", "inference", "model_type", "overloaded", "tokenization", "validation")
METHODS = ("single", "batch")
SECONDS = tuple(1e-5 * 1.5**power for power in range(1, 36))


class Histogram:
    """Counts of values up to each of some bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds: tuple[float, ...] = tuple(bounds)
        self.counts: list[int] = [0] * (len(bounds) + 1)
        self.sum: float = 0.0

    def record(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str) -> list[str]:
        """Return the lines of Prometheus's text format."""
        total, lines = 0, []
        for bound, count in zip([*map(_number, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {_number(self.sum)}", f"{name}_count {total}"]


class Metrics:
    """The service's metrics. All of them are there from the start.

    Parameters
    ----------
    max_input_length
        The longest text that a model reads, in tokens.

    Examples
    --------
    >>> metrics = Metrics(max_input_length=256)
    >>> metrics.count("te_request_count", ("method", "single"))
    >>> [line for line in metrics.render({}).splitlines() if line.startswith("te_request_count")]
    ['te_request_count{method="single"} 1', 'te_request_count{method="batch"} 0']
    """

    def __init__(self, max_input_length: int) -> None:
        self._lock = threading.Lock()
        powers = [2.0**power for power in range(21)]
        self._counters: dict[str, dict[Labels, int]] = {
            "te_request_count": {(("method", method),): 0 for method in METHODS},
            "te_request_success": {(("method", method),): 0 for method in METHODS},
            "te_request_failure": {(("err", err),): 0 for err in FAILURES},
            "te_request_truncated": {(): 0},
        }
        self._histograms: dict[str, Histogram] = {}
        for kind in ("request", "embed", "predict"):
            if kind != "request":
                self._counters[f"te_{kind}_count"] = {(): 0}
                self._counters[f"te_{kind}_success"] = {(): 0}
            for part in ("", "_tokenization", "_queue", "_inference"):
                self._histograms[f"te_{kind}{part}_duration"] = Histogram(SECONDS)
        self._histograms["te_request_input_length"] = Histogram([p for p in powers[:20] if p <= max_input_length])
        self._histograms["te_batch_next_size"] = Histogram(powers[:13])
        self._histograms["te_batch_next_tokens"] = Histogram(powers)

    def count(self, name: str, *labels: tuple[str, str], by: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            series = self._counters[name]
            series[labels] = series.get(labels, 0) + by

    def count_failure(self, err: str) -> None:
        """Count a request that failed."""
        self.count("te_request_failure", ("err", err))

    def count_pack(self, texts: int, tokens: int) -> None:
        """Count a pack that is computed."""
        with self._lock:
            self._histograms["te_batch_next_size"].record(texts)
            self._histograms["te_batch_next_tokens"].record(tokens)

    def record(self, values: dict[str, float]) -> None:
        """Add values to histograms, by their names."""
        with self._lock:
            for name, value in values.items():
                self._histograms[name].record(value)

    def record_lengths(self, lengths: Sequence[int]) -> None:
        """Count the texts' numbers of tokens."""
        with self._lock:
            for length in lengths:
                self._histograms["te_request_input_length"].record(length)

    def render(self, gauges: dict[str, float]) -> str:
        """Return everything, and the gauges' values, in Prometheus's text format."""
        lines = []
        with self._lock:
            for name, series in self._counters.items():
                lines.append(f"# TYPE {name} counter")
                lines += [f"{name}{_shown(labels)} {value}" for labels, value in series.items()]
            for name, value in gauges.items():
                lines += [f"# TYPE {name} gauge", f"{name} {_number(value)}"]
            for name, histogram in self._histograms.items():
                lines += [f"# TYPE {name} histogram", *histogram.lines(name)]
        return "\n".join(lines) + "\n"


def _shown(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""


def _number(value: float) -> str:
    return f"{value:.10g}"
