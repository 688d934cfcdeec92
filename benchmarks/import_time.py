"""How long `import minigraph` takes, against `import numpy`: the best of several fresh processes each, taken in turns.

python benchmarks/import_time.py [runs]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LIMIT = 1.4

UNUSUAL = ("PYTHONDONTWRITEBYTECODE", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
AS_USERS = {name: value for name, value in os.environ.items() if name not in UNUSUAL}
"""The environment of a user whose second import finds the package compiled to bytecode, and whose OpenBLAS chooses its code."""


def import_seconds(module: str) -> float:
    """The seconds that one import takes in a fresh process, the start of Python aside."""
    command = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=root, env=AS_USERS)
    return float(done.stdout)


def main(runs: int) -> None:
    """Print both times and their ratio."""
    pairs = [(import_seconds("numpy"), import_seconds("minigraph")) for _ in range(runs)]
    numpy, ours = (min(times) for times in zip(*pairs, strict=True))
    print(f"import numpy      {numpy * 1e3:7.1f} ms")
    print(f"import minigraph  {ours * 1e3:7.1f} ms")
    print(f"ratio             {ours / numpy:7.2f}   (at most {LIMIT} is wanted)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
