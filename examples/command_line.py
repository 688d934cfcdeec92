"""What the examples' options may be."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def between(least: float, most: float, kind: type = int) -> Callable[[str], float]:
    """What argparse makes numbers within bounds by."""

    def number(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least} and {most}")
        return value

    return number


def picture(text: str) -> Path:
    """A path that a picture can be written to, in a folder that is made at once."""
    path = Path(text)
    if path.suffix not in (".png", ".pdf", ".svg") or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no file that ends in .png, .pdf or .svg")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path.parent} cannot be made: {error}") from None
    return path
