"""Loops: Theano's semantics, gradients against steps written out, and what is told of them."""

from __future__ import annotations

import numpy as np
import pytest
from loop_generator import random_loop

import minigraph as mg
from minigraph.kernels import jit

BACKENDS = ["numpy", "native"] if jit.is_available() else ["numpy"]


@pytest.mark.parametrize("seed", range(100))
def test_random_loops_equal_their_steps_written_out(seed):
    one = random_loop(seed)
    wanted = [[*outputs] for outputs in (one.looped, one.unrolled)]
    for outputs in wanted:
        weights = [np.random.default_rng(seed + k).normal(size=3) for k, _ in enumerate(outputs)]
        terms = [mg.square(out - weight).sum() for out, weight in zip(outputs, weights, strict=True)]
        cost = sum(terms[1:], terms[0]) + outputs[0][-1].sum()
        slopes = mg.grad(cost, one.leaves, disconnected_inputs="ignore")
        outputs += slopes
        if seed % 2:
            curved = sum((mg.square(slope).sum() for slope in slopes[1:]), mg.square(slopes[0]).sum())
            outputs += mg.grad(curved, one.leaves, disconnected_inputs="ignore")
    reference = mg.function(list(one.values), wanted[1], on_unused_input="ignore", backend="numpy")(*one.values.values())
    for backend in BACKENDS:
        f = mg.function(list(one.values), wanted[0], on_unused_input="ignore", backend=backend)
        for k, (found, expected) in enumerate(zip(f(*one.values.values()), reference, strict=True)):
            np.testing.assert_allclose(found, expected, 1e-9, 1e-9, err_msg=f"{one.title}, {backend}, output {k}")
