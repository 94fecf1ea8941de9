"""The machine: what it is, how fast its BLAS is, and how much arithmetic a text costs."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.threads import available_cores, limit_threads
from ..config import BertConfig

SGEMM_SHAPE = (768, 384, 1536)  # tokens × in × out: a pack of texts through the widest product of all-MiniLM-L6-v2


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def blas() -> list[dict[str, Any]]:
    """Return what threadpoolctl knows of the BLAS libraries in this process."""
    from threadpoolctl import threadpool_info

    keys = ("internal_api", "version", "architecture", "num_threads", "filepath")
    found = [library for library in threadpool_info() if library.get("user_api") == "blas"]
    return [{key: library.get(key) for key in keys} for library in found]


def describe() -> dict[str, Any]:
    """Return what a reader of the figures must know of the machine."""
    return {
        "processor": processor(),
        "cores": available_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas(),
    }


def flops(config: BertConfig, token_counts: Iterable[int]) -> int:
    """Return the floating-point operations of the matrix products for texts of so many tokens each.

    In every layer a token passes four hidden × hidden products and two hidden × intermediate ones, and in a text of L
    tokens it meets L others twice, scores and context; a multiply and an add are two. For all-MiniLM-L6-v2 that is
    21.2 million a token and 9,216·L.
    """
    hidden = config.hidden_size
    weights = 4 * hidden * hidden + 2 * hidden * config.intermediate_size
    return sum(2 * config.num_hidden_layers * tokens * (weights + 2 * hidden * tokens) for tokens in token_counts)


def sgemm_rate(threads: int, budget: float) -> float:
    """Return how many floating-point operations a second NumPy's BLAS does on this machine, all threads together.

    Measured both ways, one product after the other with threads inside, and a stream of products on each thread with
    BLAS held to one; the better counts, because it is what the machine can do.
    """
    rows, inner, columns = SGEMM_SHAPE
    rng = np.random.default_rng(0)
    weight = np.asfortranarray(rng.standard_normal((columns, inner), dtype=np.float32))
    inputs = [rng.standard_normal((rows, inner), dtype=np.float32) for _ in range(threads)]

    def products_until(x: np.ndarray, deadline: float) -> int:
        count = 0
        while time.perf_counter() < deadline or not count:  # at least one, however slow the machine is
            np.matmul(x, weight.T)
            count += 1
        return count

    def rate(pool_size: int) -> float:
        start = time.perf_counter()
        with ThreadPoolExecutor(pool_size) as pool:
            deadlines = [start + budget / 2] * pool_size
            products = sum(pool.map(products_until, inputs[:pool_size], deadlines))
        return products * 2 * rows * inner * columns / (time.perf_counter() - start)

    rates = [rate(1)]
    if threads > 1:
        with limit_threads(1):
            rates.append(rate(threads))
    return max(rates)
