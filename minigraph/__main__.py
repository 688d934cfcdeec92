"""`python -m minigraph doctor`, and `python -m minigraph files PATH ...`."""

from __future__ import annotations

import sys

from minigraph.compiler.doctor import doctor
from minigraph.core.errors import FileFormatError
from minigraph.files.describe import describe

USAGE = """usage: python -m minigraph doctor            what runs on this machine, and why
       python -m minigraph files PATH ...   what is in files, and whether they are whole"""


def main(arguments: list[str]) -> int:
    """Run a command; the exit status."""
    match arguments:
        case ["doctor"]:
            print(doctor())
            return 0
        case ["files", _, *_]:
            return max([_described(path) for path in arguments[1:]])
    print(USAGE, file=sys.stderr)
    return 2


def _described(path: str) -> int:
    """Print a page on a file; 1 if it is damaged, or cannot be read."""
    try:
        page = describe(path)
    except (OSError, FileFormatError) as error:
        print(error.message if isinstance(error, FileFormatError) else f"{path} cannot be read: {error}", file=sys.stderr)
        return 1
    print(page)
    return int("damaged:" in page.splitlines())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
