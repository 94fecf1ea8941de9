"""The backend for an NVIDIA GPU: CuPy's arrays, cuBLAS's products, and CUDA kernels of our own."""
