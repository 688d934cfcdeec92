"""Ops that make, reshape, index and arrange arrays."""
