"""What Numba compiles for: the processor, the width of its vector registers, and the sizes that follow from it.

The host is not asked: ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` may name another processor, for example an older
one, so that all machines of a cluster can share compiled kernels. The sizes follow from the target machine alone, which
is part of the key under which compiled kernels are kept.
"""

from __future__ import annotations

from typing import NamedTuple

from .jit import target_machine

FEW_ROWS = 2  # of a tile for the edge of a matrix: the fewest that keep the multiply-add units busy


class Target(NamedTuple):
    """The sizes that shape a kernel.

    Attributes
    ----------
    architecture
        The first part of LLVM's target triple, such as ``"x86_64"`` or ``"aarch64"``.
    lanes
        How many float32 numbers a vector register holds.
    rows
        How many rows a tile has: its ``2 * rows`` accumulators hide the latency of multiply-add, and fit into the
        registers together with their factors. Measured on x86-64 with 16 and 32 registers; on ARM's 32 registers more
        rows may be quicker; this has not been measured.
    fused
        Whether there is a multiply-add instruction. Without one, the two roundings of a product and a sum remain.
    """

    architecture: str
    lanes: int
    rows: int
    fused: bool

    @property
    def beats_blas(self) -> bool:
        """Whether the micro-kernel is quicker than BLAS: registers of four lanes need a multiply-add instruction."""
        return self.lanes > 4 or self.fused


def _target() -> Target:
    triple, _, flags = target_machine()
    architecture = triple.partition("-")[0]
    features = {flag[1:] for flag in flags.split(",") if flag.startswith("+")}
    if architecture.startswith(("aarch64", "arm64")):  # NEON is always there
        return Target(architecture, lanes=4, rows=6, fused=True)
    lanes = 16 if "avx512f" in features else 8 if "avx" in features else 4
    return Target(architecture, lanes, rows=6, fused="fma" in features)


TARGET = _target()
LANES, ROWS = TARGET.lanes, TARGET.rows
WIDTH = 2 * LANES
