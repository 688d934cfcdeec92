"""The passes over graphs of any sizes that all backends share, in order."""

from __future__ import annotations

from minigraph.compiler.passes import Pass
from minigraph.compiler.scalar.seclude import seclude
from minigraph.rewrite.algebra import expand_outer_products, simplify
from minigraph.rewrite.flatten_stacks import flatten_stacks
from minigraph.rewrite.fold import fold
from minigraph.rewrite.lift_loops import lift_loops
from minigraph.rewrite.lower import lower, strip
from minigraph.rewrite.merge import merge
from minigraph.rewrite.push_slices import push_slices
from minigraph.rewrite.sink_transposes import sink_transposes
from minigraph.rewrite.stability.rules import stabilize
from minigraph.rewrite.stack_products import stack_products
from minigraph.rewrite.symbolic_shapes import trace_sizes
from minigraph.rewrite.tidy_loops import tidy_loops

SECLUDE = Pass(seclude, needed=True)

PASSES = (
    Pass(strip, needed=True),
    Pass(stabilize),
    Pass(lower, needed=True),
    Pass(trace_sizes),
    Pass(merge),
    Pass(simplify),
    Pass(flatten_stacks),
    Pass(tidy_loops),
    Pass(lift_loops),
    Pass(expand_outer_products),
    Pass(fold),
    Pass(simplify),
    Pass(push_slices),
    Pass(sink_transposes),
    Pass(stack_products),
    Pass(fold),
    Pass(merge),
    Pass(tidy_loops),
)
"""Each takes a graph and returns an equal one; passes of a backend's own come between `SECLUDE` and these, or after them."""
