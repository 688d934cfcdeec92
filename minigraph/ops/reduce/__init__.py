"""Ops that fold axes, and what is made of them: statistics, softmax, losses, normalization."""
