"""JSON from files that nobody vouches for: what is doubtful is an error."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def strictly_parsed(text: bytes | memoryview) -> Any:
    """The value of JSON; ValueError, with the reason, for anything else, doubled keys, and numbers that are not finite."""
    try:
        return json.loads(str(text, "utf-8"), object_pairs_hook=_distinct, parse_constant=_refused, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, each of whose keys is there once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in found if keys.count(key) > 1)[:80]!r} is there twice")
    return found


def _refused(name: str) -> NoReturn:
    """An error for a number that JSON does not have."""
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    """A number that a float can hold."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:80]} is beyond what a float can hold")
    return number
