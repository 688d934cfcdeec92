"""Docstrings: their examples run, their words are plain, and those of public functions and layers name every argument."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import io
import pkgutil
import re
import tokenize
from pathlib import Path

import numpy as np
import pytest

import minigraph as mg
from minigraph.layers import Layer
from minigraph.layers.core.application import Application
from support.places import ROOT

NAMES = sorted(module.name for module in pkgutil.walk_packages(mg.__path__, "minigraph."))

BASES = {"DialectNormalization", "Filtering", "PyTorchNormalization", "SampleNormalization", "ChannelNormalization"}
BASES |= {"StoresPopulation", "TrainableNormalization"}
"""Layers that are made for subclasses alone, whose examples those have."""


def banned():
    """The patterns that CONTRIBUTING.md bans: phrases anywhere, and words with which no docstring begins."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## Words")[2].partition("\n## ")[0]
    phrases, openings = (re.findall(r'"([^"]+)"', line) for line in text.splitlines() if line.startswith("- Not "))
    return re.compile(rf"\b({'|'.join(phrases)})\b", re.IGNORECASE), re.compile(rf"({'|'.join(openings)}) ")


PHRASES, OPENINGS = banned()


def texts(source):
    """The docstrings and the comments of a module, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, " ".join(node.value.value.split())
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def public(module):
    """The public functions, classes and methods that a module defines, with their names."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        if inspect.isfunction(value):
            yield name, value, value.__doc__
        elif inspect.isclass(value):
            if "__init__" in vars(value):
                own = (value.__init__,) if module.__name__.startswith("minigraph.compiler.") else ()
                yield name, value.__init__, "\n".join(one.__doc__ or "" for one in (*own, *value.__mro__))
            for own, member in vars(value).items():
                method = member.method if isinstance(member, Application) else member
                if not own.startswith("_") and inspect.isfunction(method) and method.__doc__:
                    yield f"{name}.{own}", method, method.__doc__


def unnamed(function, text):
    """The arguments that a docstring does not name, of a function with more than two."""
    parameters = [one for one in inspect.signature(function).parameters.values() if one.name not in ("self", "cls")]
    names = [one.name for one in parameters if one.kind is not one.VAR_KEYWORD and not one.name.startswith("_")]
    return [name for name in names if not re.search(rf"\b{name}\b", text or "")] if len(names) > 2 else []


def test_examples_in_docstrings():
    results = [doctest.testmod(importlib.import_module(name), extraglobs={"mg": mg, "np": np}) for name in NAMES]
    assert sum(result.failed for result in results) == 0
    assert sum(result.attempted for result in results) >= 150


@pytest.mark.parametrize("name", NAMES)
def test_words_are_plain(name):
    source = Path(importlib.import_module(name).__file__).read_text()
    found = [(line, text) for line, text in texts(source) if PHRASES.search(text) or OPENINGS.match(text)]
    assert found == [], "words that CONTRIBUTING.md bans"


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_named(name):
    found = {own: unnamed(function, text) for own, function, text in public(importlib.import_module(name))}
    assert {own: names for own, names in found.items() if names} == {}


def test_layers_have_examples():
    homes = [mg.layers, *(one for one in vars(mg.dialects).values() if inspect.ismodule(one))]
    layers = {kind for home in homes for kind in vars(home).values() if inspect.isclass(kind) and issubclass(kind, Layer)}
    public = {kind for kind in layers if kind.__name__ not in BASES and kind.__name__[0] != "_"}
    assert len(public) > 50
    assert {kind.__name__ for kind in public if ">>>" not in kind.__doc__} == set()


def test_the_checks_see_what_they_are_for():
    assert PHRASES.search("of so many rows") and OPENINGS.match("What is given") and not OPENINGS.match("Whether it is given")
    assert unnamed(lambda first, second, third: None, "The first, and the third.") == ["second"]
    assert len(NAMES) > 200
