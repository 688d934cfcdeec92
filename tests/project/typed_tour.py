"""Whether README's tour passes mypy --strict: `python tests/project/typed_tour.py`, part of `make lint`."""

import re
import sys
import tempfile
from pathlib import Path

from mypy import api

ROOT = Path(__file__).parents[2]


def tour() -> str:
    """The code of README's Python blocks, and that applications have the types of their methods."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    return "\n".join([*blocks, "from typing import assert_type", "assert_type(mlp.apply(x), mg.Variable)"])


def main() -> int:
    """Print what mypy says of the tour; its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tour.py"
        path.write_text(tour())
        text, errors, status = api.run(["--config-file", str(ROOT / "pyproject.toml"), "--strict", str(path)])
    print(text + errors, end="")
    return status


if __name__ == "__main__":
    sys.exit(main())
