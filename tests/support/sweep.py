"""How long random tests are: the suite tries a few cases, a sweep all of them, MINIGRAPH_SWEEP times over."""

import os

FACTOR = float(os.environ.get("MINIGRAPH_SWEEP", "1"))
IS_SWEEP = FACTOR > 1


def rounds(suite: int, sweep: int | None = None) -> int:
    """The number of rounds: `suite` in the suite, and MINIGRAPH_SWEEP times `sweep`, by default as many, in a sweep."""
    if IS_SWEEP and sweep is not None:
        return round(sweep * FACTOR)
    return max(1, round(suite * FACTOR))
