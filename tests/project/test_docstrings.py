"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np

import minigraph as mg


def test_examples_in_docstrings():
    names = [module.name for module in pkgutil.walk_packages(mg.__path__, "minigraph.")]
    results = [doctest.testmod(importlib.import_module(name), extraglobs={"mg": mg, "np": np}) for name in names]
    assert sum(result.failed for result in results) == 0
    assert sum(result.attempted for result in results) >= 15
