"""What computes: ops one by one on NumPy or CuPy, or regions compiled for this machine."""
