"""A program for `test_int8`: the kernels of one processor against the formulas. It runs in a process of its own.

Its arguments are a target triple and features, as LLVM writes them, for which kernels run as plain Python; or none, for
what Numba compiles for.
"""

from __future__ import annotations

import contextlib
import sys

import llvmlite.binding as llvm
import numpy as np

from minilm.backends.numba import jit

if __name__ == "__main__" and len(sys.argv) > 1:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    jit.target_machine = lambda: (sys.argv[1], "", sys.argv[2])

from minilm.backends.int8 import kernels, reference, simd
from minilm.backends.int8.target import DOT, GROUP, OFFSET, WIDTH
from minilm.backends.int8.twins import Int8Operations, place
from minilm.backends.threads import limit_threads

RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(0.5, 1, shape).astype(np.float32)


def layer(weights: dict[str, np.ndarray], gain: np.ndarray) -> dict[str, np.ndarray]:
    """Place the weights of an attention whose input comes from a LayerNorm."""
    named = {name: {"weight": weight} for name, weight in weights.items()}
    tree = {
        "embeddings": {"LayerNorm": {"weight": gain}},
        "encoder": {"layer": {"0": {"attention": {"self": named}}}},
    }
    placed = place(tree)["encoder"]["layer"]["0"]["attention"]["self"]
    return {name: each["weight"] for name, each in placed.items()}


def check_integers(rows: int, depth: int) -> None:
    """The kernel quantizes to the formula's integers, and sums the same products."""
    x, inverse_factors = normal(rows, depth), np.abs(normal(depth)) + np.float32(0.1)
    x[0] = 0
    x[rows // 2] = -np.abs(x[rows // 2])  # all on one side of 0
    if depth > 1:  # from -1 to 1, both ends are rounded away from 0: the largest number would become 256
        x[1], inverse_factors[:2] = 0, 1
        x[1, :2] = 1, -1
    groups = -(-depth // GROUP)
    quantized = np.empty(rows * (groups + 2), np.float32)
    kernels.quantize(quantized, x.reshape(-1), inverse_factors, np.empty(depth, np.float32), rows, groups)
    bits = quantized.view(np.int32)
    words, zeros = bits[: rows * groups], bits[rows * groups :][:rows]
    factors = np.float32(1) / inverse_factors
    scaled = x * inverse_factors
    q, expected_zeros, steps = reference.quantize_rows(scaled, np.ones_like(factors))
    stored = simd.unpacked(words).reshape(rows, -1)
    np.testing.assert_array_equal(stored[:, :depth] + OFFSET, q)
    np.testing.assert_array_equal(zeros + OFFSET, expected_zeros)
    np.testing.assert_array_equal(quantized[rows * (groups + 1) :], steps)

    # The largest weights and activations there are: what would saturate does so here.
    w = RNG.choice(np.array([-127, -126, 126, 127], np.int8), (2 * WIDTH, depth))
    q = RNG.choice(np.array([0, 1, 254, 255], np.uint8), (rows, depth))
    zeros = RNG.integers(0, 256, rows).astype(np.int32)
    filled_w = np.zeros((2 * WIDTH, groups * GROUP), np.int8)
    filled_w[:, :depth] = w
    panels = np.ascontiguousarray(filled_w.reshape(2, WIDTH, groups, GROUP).transpose(0, 2, 1, 3)).reshape(-1)
    filled_q = np.zeros((rows, groups * GROUP), simd.STORED)
    filled_q[:, :depth] = q.astype(np.int32) - OFFSET
    y, one, zero = (
        np.empty(rows * 2 * WIDTH, np.float32),
        np.ones(2 * WIDTH, np.float32),
        np.zeros(2 * WIDTH, np.float32),
    )
    kernels.product(
        y, filled_q.reshape(-1).view(np.int32), zeros - np.int32(OFFSET), np.ones(rows, np.float32), panels,
        w.sum(axis=1, dtype=np.int32), one, zero, rows, groups, 2 * WIDTH, 0, 2, False,
    )  # fmt: skip
    sums = reference.integer_product(q, zeros, w)
    assert np.abs(sums).max() < 2**24  # float32 holds them exactly
    np.testing.assert_array_equal(y.reshape(rows, -1), sums)


def check_operations(rows: int, out: int, depth: int) -> None:
    """The operations come to the formulas' results."""
    operations = Int8Operations()
    gain = normal(depth)
    plain = {name: normal(out, depth) for name in ("key", "query", "value")}  # in the order of a checkpoint
    weights, x, bias = layer(plain, gain), normal(rows, depth), normal(out)
    dense = [{"weight": weights[name], "bias": bias} for name in ("query", "key", "value")]
    together = operations.linears(x, *dense)
    for name, got in zip(("query", "key", "value"), together, strict=True):
        factors = reference.smoothing_factors(plain[name], gain)
        expected = reference.linear(x, *reference.quantize_weight(plain[name], factors), factors, bias)
        scale = np.abs(expected).max(axis=1, keepdims=True) if rows else 1
        assert got.shape == expected.shape and got.dtype == np.float32
        assert (np.abs(got - expected) <= 1e-6 * scale).all()
        np.testing.assert_array_equal(operations.linear(x, weights[name], bias), got)
        shifted = operations.linear(x, weights[name])
        assert (np.abs(shifted - (expected - bias)) <= 2e-6 * scale).all()


if __name__ == "__main__":
    small = len(sys.argv) > 1  # plain Python is slow, and its atomic operations are for one thread
    for rows in (2, 9) if small else (2, 6, 7, 13, 97, 200):
        for depth in (1, 13, 40):
            check_integers(rows, depth)
    for rows in (3, 0) if small else (0, 1, 2, 12, 25, 97, 250):
        for out, depth in ((WIDTH, 12), (WIDTH + 3, 13)):
            with limit_threads(1) if small else contextlib.nullcontext():
                check_operations(rows, out, depth)
    print(DOT.name)
