"""`python -m minigraph doctor`."""

from __future__ import annotations

import sys

from minigraph.compiler.doctor import doctor


def main(arguments: list[str]) -> int:
    """Run a command; the exit status."""
    if arguments != ["doctor"]:
        print("usage: python -m minigraph doctor", file=sys.stderr)
        return 2
    print(doctor())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
