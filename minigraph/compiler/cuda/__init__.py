"""CUDA kernels, cuBLAS, and calls on GPUs."""
