"""Print this processor's features without AVX-512, in the form of NUMBA_CPU_FEATURES; nothing if it has no AVX-512."""

import llvmlite.binding

features = llvmlite.binding.get_host_cpu_features()
kept = {name: there and not name.startswith("avx512") for name, there in features.items()}
if kept != dict(features):
    print(",".join(f"{'+' if there else '-'}{name}" for name, there in kept.items()))
