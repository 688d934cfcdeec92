"""Functions on the compiled backend."""

import os
import subprocess
import sys
import textwrap

import minigraph as mg
from support.places import ROOT


def native(inputs, outputs=None, **options):
    """A function on the compiled backend."""
    return mg.function(inputs, outputs, backend="native", **options)


def in_a_process(script, **environment):
    """What a script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
