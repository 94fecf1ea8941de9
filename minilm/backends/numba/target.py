"""What Numba compiles for: the processor, the width of its vector registers, and the sizes that follow from it.

The host is not asked: ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` may name another processor, for example an older
one, so that all machines of a cluster can share compiled kernels. The sizes follow from the target machine alone, which
is part of the key under which compiled kernels are kept.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import llvmlite.binding as llvm

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


_PROBE = """
declare <16 x float> @llvm.fmuladd.v16f32(<16 x float>, <16 x float>, <16 x float>)
define <16 x float> @f(<16 x float> %a, <16 x float> %b, <16 x float> %c) {
    %y = call <16 x float> @llvm.fmuladd.v16f32(<16 x float> %a, <16 x float> %b, <16 x float> %c)
    ret <16 x float> %y
}"""


def describe(triple: str, processor: str, features: str) -> Target:
    """Return the sizes for a target machine, see `minilm.backends.numba.jit.target_machine`.

    A list of features need not be complete: the processor's name stands for some, and one implies others. So LLVM
    compiles 16 multiply-adds, and the assembly shows what it uses. That takes 6 ms, and the list of an x86 host's own
    features spares it: it says yes or no to each.
    """
    flags = {flag[1:]: flag[0] == "+" for flag in features.split(",") if flag}
    if {"avx", "avx512f", "fma"} <= flags.keys():
        lanes, fused = 16 if flags["avx512f"] else 8 if flags["avx"] else 4, flags["fma"]
    else:
        machine = llvm.Target.from_triple(triple).create_target_machine(cpu=processor, features=features)
        assembly = machine.emit_assembly(llvm.parse_assembly(_PROBE))
        lanes = 16 if "%zmm" in assembly else 8 if "%ymm" in assembly else 4
        fused = re.search(r"\b(vfn?madd|fmla|xvmadd|vfmacc)", assembly) is not None
    return Target(triple.partition("-")[0], lanes, rows=6, fused=fused)


TARGET = describe(*target_machine())
LANES, ROWS = TARGET.lanes, TARGET.rows
WIDTH = 2 * LANES
