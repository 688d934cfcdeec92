"""What computes: `interpreted` runs ops one by one on NumPy or CuPy."""
