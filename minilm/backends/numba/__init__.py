"""The backend for a CPU: kernels that Numba compiles on the machine where they run."""
