"""LLVM kernels, matrix products, and calls on processors."""
