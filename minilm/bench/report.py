"""The results as tables to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Results = dict[str, Any]

_WORKLOADS = {"short": "Short texts", "paragraphs": "Paragraphs", "long": "Long texts"}


def report(results: Results) -> str:
    """Return everything that `minilm.bench.measure.benchmark` found, as text."""
    parts = [_heading(results)]
    if "sgemm" in results:
        parts += [_throughput(results, name) for name in results["workloads"]]
    if any("latency" in peer for peer in results["peers"].values()):
        parts.append(_latency(results))
    parts.append(_processes(results))
    if any("errors" in peer for peer in results["peers"].values()):
        parts.append(_errors(results))
    if results.get("thread_scaling"):
        parts.append(_threads(results))
    if "growth" in results:
        parts.append(_growth(results))
    parts += [_training(results, name) for name in results.get("training", ())]
    if results["left_out"]:
        parts.append("\n".join(f"Left out: {peer}, {reason}" for peer, reason in results["left_out"].items()))
    return "\n\n".join(parts)


def _table(title: str, header: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """Return a table with its first column to the left and the others to the right."""
    cells = [[title, *header], *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "─" * len(max(lines, key=len)), *lines[1:]])


def _heading(results: Results) -> str:
    machine, model = results["machine"], results["model"]
    blas = ", ".join(f"{b['internal_api']} {b['version']} {b['architecture'] or ''}".strip() for b in machine["blas"])
    lines = [
        f"{model['name']} · {results['threads']} threads · medians of {results['rounds']} interleaved rounds",
        f"{machine['processor']} · Python {machine['python']} · NumPy {machine['numpy']} with {blas or 'unknown BLAS'}",
        *(f"{peer['label']}: {peer['version']}" for peer in results["peers"].values()),
    ]
    if "sgemm" in results:
        shape = "768×384×1536"
        lines.append(f"sgemm {shape} here, all threads: {results['sgemm']['median'] / 1e9:.0f} GFLOP/s")
    return "\n".join(lines)


def _first(results: Results) -> str:
    label: str = next(iter(results["peers"].values()))["label"]
    return label


def _throughput(results: Results, name: str) -> str:
    workload = results["workloads"][name]
    title = f"{_WORKLOADS[name]}, {workload['tokens'] / workload['texts']:.1f} tokens on average"

    def rows() -> Iterator[Sequence[str]]:
        for peer in results["peers"].values():
            rates = peer["throughput"][name]
            texts, tokens = f"{rates['texts_per_second']:.1f}", f"{rates['tokens_per_second']:,.0f}"
            yield peer["label"], texts, tokens, f"{rates['share_of_sgemm']:.0%}", f"{rates['first_is_faster_by']:.2f} ×"

    return _table(title, ["texts/s", "tokens/s", "of sgemm", f"{_first(results)} is faster by"], rows())


def _latency(results: Results) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for peer in results["peers"].values():
            times = peer["latency"]
            milliseconds = [f"{times[key] * 1e3:.1f} ms" for key in ("median", "p99")]
            yield peer["label"], *milliseconds, f"{times['first_takes']:.2f} of it"

    header = ["median", "99th percentile", f"{_first(results)} takes"]
    return _table("One text of about 24 tokens", header, rows())


def _processes(results: Results) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for peer in results["peers"].values():
            memory = [_megabytes(peer["memory"][key]) for key in ("first_vector", "peak")]
            yield (
                peer["label"],
                f"{peer['start']['median']:.2f} s",
                *memory,
                f"{peer['max_difference']:.1e}" if "max_difference" in peer else "",
            )
            if "uncached" in peer["start"]:
                yield "  when just installed", f"{peer['start']['uncached']:.2f} s", "", "", ""

    header = ["first vector after", "memory then", "at peak", "max |difference|"]
    return _table("A fresh process", header, rows())


def _errors(results: Results) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for peer in results["peers"].values():
            if "errors" in peer:
                found = peer["errors"]
                cosines = [f"{found[key]:.4f}" for key in ("mean_cosine", "worst_cosine")]
                similarities = [f"{found[key]:.4f}" for key in ("similarity_rms", "similarity_max")]
                yield peer["label"], *cosines, *similarities, f"{found['spearman']:.5f}"

    header = ["mean cosine", "worst", "similarity error, rms", "largest", "Spearman with float32"]
    return _table("Quantized vectors against float32", header, rows())


def _megabytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 1e6:.0f} MB"


def _threads(results: Results) -> str:
    rows = ([_WORKLOADS[name], f"{ratio['median']:.2f} ×"] for name, ratio in results["thread_scaling"].items())
    return _table(f"{_first(results)} on {results['threads']} threads against 1", [""], rows)


def _growth(results: Results) -> str:
    rows = (
        [f"{row['texts']:,}", f"{row['seconds_per_text'] * 1e3:.3f} ms", _megabytes(row["memory_above_result"])]
        for row in results["growth"]
    )
    return _table(f"{_first(results)}, short texts", ["time per text", "peak memory above the result"], rows)


def _training(results: Results, name: str) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for peer, found in results["training"][name].items():
            seconds, memory = found["seconds_per_step"]["median"], _megabytes(found["peak_memory"])
            label = results["peers"][peer]["label"]
            yield label, f"{seconds * 1e3:.0f} ms", f"{found['first_is_faster_by']:.2f} ×", memory

    header = ["time of a step", f"{_first(results)} is faster by", "peak memory"]
    return _table(f"Training on 32 pairs, {_WORKLOADS[name].lower()}", header, rows())
