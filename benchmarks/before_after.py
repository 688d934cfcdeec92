"""Two checkouts of minigraph against each other, on every case of the suite, in one interleaved run.

python benchmarks/before_after.py BEFORE [--rounds N] [--seconds S] [--only PART]

BEFORE is another checkout, made by `git worktree add`, say; after is this one. A figure is the median over the rounds of the
ratio of the fastest calls, after over before, with its quartiles. The two take turns at going first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from run import HERE, Worker, all_cases


def ratios(workers: Sequence[Worker], rounds: int, seconds: float) -> tuple[list[float], float]:
    """The ratio of the second of two workers to the first for each round, sorted, and the microseconds of a call of the second.

    Both have made the case; a turn takes about `seconds`.
    """
    counts = [max(3, min(2000, int(seconds / max(min(worker.ask(time=5)), 1e-6)))) for worker in workers]
    found: list[float] = []
    fastest = 1e9
    for k in range(rounds):
        order = (0, 1) if k % 2 else (1, 0)
        times = {one: min(workers[one].ask(time=counts[one])) for one in order}
        found.append(times[1] / times[0])
        fastest = min(fastest, times[1])
    return sorted(found), fastest * 1e6


def summary(found: Sequence[float]) -> str:
    """The median of sorted ratios, and their quartiles."""
    return f"{statistics.median(found):5.3f} ({found[len(found) // 4]:.3f} ... {found[-1 - len(found) // 4]:.3f})"


def main() -> None:
    """Measure, and print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.15, help="of a turn")
    parser.add_argument("--only", default="", help="a part of the titles of the cases to measure")
    options = parser.parse_args()
    for title, case, _ in all_cases(quick=False):
        if options.only in title:
            workers = [Worker("minigraph", tree=tree) for tree in (options.before.resolve(), HERE.parent)]
            for worker in workers:
                worker.ask(make=case)
            found, microseconds = ratios(workers, options.rounds, options.seconds)
            print(f"{title:48} {microseconds:10.1f} us   {summary(found)}", flush=True)
            for worker in workers:
                worker.close()


if __name__ == "__main__":
    main()
