"""How long random sweeps are: MINIGRAPH_SWEEP multiplies what the suite does."""

import os


def rounds(n: int) -> int:
    """So many rounds, times MINIGRAPH_SWEEP, a factor that is 1 by default."""
    return max(1, round(n * float(os.environ.get("MINIGRAPH_SWEEP", "1"))))
