"""Ops that compute each element of their result from one element of each operand."""
