"""Kernels in order, and the memory that they share."""
