"""How long random sweeps are: MINIGRAPH_SWEEP multiplies what the suite does, and leaves out what it does to save time."""

import os

FACTOR = float(os.environ.get("MINIGRAPH_SWEEP", "1"))
IS_SWEEP = FACTOR > 1


def rounds(n: int) -> int:
    """So many rounds, times MINIGRAPH_SWEEP, a factor that is 1 by default."""
    return max(1, round(n * FACTOR))
