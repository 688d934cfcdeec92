"""Code blocks of README and docs run as tests; compiled code is kept for one run of all tests."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.sybil import SybilCollection

sys.path += [str(Path(__file__).parent / one) for one in ("tests", "examples")]
from support import host_cuda

pytest_collect_file = SybilCollection(
    [
        Sybil(parsers=[PythonCodeBlockParser()], patterns=["*.md"], excludes=["gpu.md"], fixtures=["in_a_folder_of_its_own"]),
        Sybil(parsers=[PythonCodeBlockParser()], patterns=["gpu.md"], fixtures=["gpu_on_the_host"]),
    ]
).pytest()


@pytest.fixture
def in_a_folder_of_its_own(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A folder for files that code blocks write, one for all blocks of a page."""
    folder = tmp_path_factory.getbasetemp() / request.node.path.stem
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)


@pytest.fixture
def gpu_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backend "cupy" for what is said of GPUs."""
    if host_cuda.COMPILER is None:
        pytest.skip("kernels are run on the host with g++")
    host_cuda.install(monkeypatch)


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
