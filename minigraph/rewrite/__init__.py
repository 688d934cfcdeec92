"""Passes over graphs: engine, sight, quotients, logarithms, stability, lower, sizes, algebra, folding, merge, specialize,
moments, loops, slices, axes, fuse, anonymous, in this order of dependence.

A rule takes a variable and returns an equal one, or None; a pass takes a graph and returns an equal one.
"""
