"""Code blocks of README and docs run as tests; compiled code is kept for one run of all tests."""

import os
import tempfile

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

pytest_collect_file = Sybil(parsers=[PythonCodeBlockParser()], patterns=["*.md"]).pytest()

KEPT = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Give all processes of this run a new directory for compiled code, unless they were given one."""
    if "MINIGRAPH_CACHE" not in os.environ:
        config.stash[KEPT] = tempfile.TemporaryDirectory()
        os.environ["MINIGRAPH_CACHE"] = config.stash[KEPT].name


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the directory where it was made."""
    if KEPT in config.stash:
        del os.environ["MINIGRAPH_CACHE"]
        config.stash[KEPT].cleanup()
