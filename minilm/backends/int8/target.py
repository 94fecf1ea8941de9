"""How products of 8-bit integers are summed: the instructions that processors have for it."""

from __future__ import annotations

from typing import NamedTuple

from ..numba.jit import target_machine


class DotProduct(NamedTuple):
    """One way to sum products of integers in 32 bits. All ways give the same sums.

    Attributes
    ----------
    name
        As `minilm info` shows it.
    instruction
        The name that LLVM gives the instruction; empty for plain multiplications and additions.
    lanes
        How many sums of 32 bits a vector register holds.
    group
        How many neighbouring products a lane takes in at once: four of 8 bits, or two of 16 bits, or one. Products of
        8 bits are used only where their sum cannot saturate, which excludes ``vpmaddubsw``.
    signed
        Whether activations must be signed: they are stored less 128 then.
    rows
        How many rows a tile has: its ``2 * rows`` sums fit into the registers together with their factors.
    quick
        Whether the product is expected to be quicker than that of float32 numbers.
    """

    name: str
    instruction: str
    lanes: int
    group: int
    signed: bool = False
    rows: int = 6
    quick: bool = True

    @property
    def width(self) -> int:
        """How many columns a tile and a panel have."""
        return 2 * self.lanes

    @property
    def offset(self) -> int:
        """What is taken from an activation of 0 to 255 before it is stored."""
        return 128 if self.signed else 0


_YMM = DotProduct("AVX-VNNI", "llvm.x86.avx512.vpdpbusd.256", 8, 4)

# What a processor must have, and how it multiplies then. The first entry that fits is taken.
X86 = (
    ({"avx512vnni", "avx512bw"}, DotProduct("AVX-512 VNNI", "llvm.x86.avx512.vpdpbusd.512", 16, 4)),
    ({"avxvnni", "avx2"}, _YMM),
    ({"avx512vnni", "avx512vl"}, _YMM),
    ({"avx512bw"}, DotProduct("AVX-512, products of 16 bits", "llvm.x86.avx512.pmaddw.d.512", 16, 2)),
    ({"avx2"}, DotProduct("AVX2, products of 16 bits", "llvm.x86.avx2.pmadd.wd", 8, 2)),
    ({"sse2"}, DotProduct("SSE2, products of 16 bits", "llvm.x86.sse2.pmadd.wd", 4, 2, rows=4, quick=False)),
)
ARM = (
    ({"dotprod"}, DotProduct("NEON dot products", "llvm.aarch64.neon.sdot.v4i32.v16i8", 4, 4, signed=True)),
    (set[str](), DotProduct("NEON, products of 16 bits", "", 4, 1, quick=False)),
)
PLAIN = DotProduct("plain products", "", 4, 1, quick=False)


def dot_product(triple: str, features: str) -> DotProduct:
    """Return how integers are multiplied on a target machine, see `minilm.backends.numba.jit.target_machine`."""
    architecture = triple.partition("-")[0]
    found = {flag[1:] for flag in features.split(",") if flag.startswith("+")}
    if architecture.startswith(("x86_64", "amd64", "i686")):
        found.add("sse2")  # not always listed, though every x86-64 has it
        return next(way for needs, way in X86 if needs <= found)
    if architecture.startswith(("aarch64", "arm64")):
        return next(way for needs, way in ARM if needs <= found)
    return PLAIN


_triple, _, _features = target_machine()
DOT = dot_product(_triple, _features)
LANES, GROUP, ROWS, WIDTH, OFFSET = DOT.lanes, DOT.group, DOT.rows, DOT.width, DOT.offset
