"""Loops, their gradients, and `scan`."""
