"""Gradients at points."""

import minigraph as mg


def slope(cost, wrt, at, **options):
    """The gradient of a cost at a point."""
    return mg.grad(cost, wrt, **options).eval({wrt: at})
