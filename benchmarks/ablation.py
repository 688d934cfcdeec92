"""What each pass of compilation wins: every case of the suite with it and without it, in one interleaved run.

python benchmarks/ablation.py [--rounds N] [--seconds S] [--only PART] [--passes NAME ...]

A figure is the median over the rounds of the ratio of the fastest calls, without the pass over with it, with its quartiles:
above 1 the pass wins. Cases whose code is the same without it are only counted. The summary names for each pass the case where
it wins most.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from before_after import ratios, summary
from run import Worker, all_cases

from minigraph.compiler.choose import machines


def optional_passes() -> list[str]:
    """The names of the passes on processors that functions may leave out, in order."""
    pipeline = machines["native"].pipeline
    listed = (*pipeline.whole, *pipeline.regions, *pipeline.shaped)
    return list(dict.fromkeys(one.name for one in listed if not one.needed))


def _plain(code: str) -> str:
    """Code without the numbers of kernels, which count what a process has compiled before."""
    return re.sub(r"kernel\d+", "kernel", code)


def main() -> None:
    """Measure, print a line for each case that a pass changes, and then one for each pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.1, help="of a turn")
    parser.add_argument("--only", nargs="*", default=[""], help="parts of the titles of the cases to measure")
    parser.add_argument("--passes", nargs="*", default=optional_passes(), help="the passes to leave out, each in its turn")
    options = parser.parse_args()
    won: dict[str, dict[str, float]] = {name: {} for name in options.passes}
    count = 0
    for title, case, _ in all_cases(quick=False):
        if not any(part in title for part in options.only):
            continue
        count += 1
        whole, reduced = Worker("minigraph"), Worker("minigraph")
        whole.ask(make=case)
        code = _plain(whole.ask(code=0))
        for name in options.passes:
            if reduced.ask(make=case, passes=[f"-{name}"]) is None:
                print(f"{title:44} {name:18} needs it", flush=True)
            elif _plain(reduced.ask(code=0)) != code:
                found, _ = ratios([whole, reduced], options.rounds, options.seconds)
                won[name][title] = statistics.median(found)
                print(f"{title:44} {name:18} {summary(found)}", flush=True)
        whole.close()
        reduced.close()
    print()
    for name, cases in won.items():
        most = max(cases, key=cases.__getitem__, default="")
        best = f"at most {cases[most]:.2f}, in {most}" if cases else ""
        print(f"{name:18} changes {len(cases)} of {count} cases; {best}")


if __name__ == "__main__":
    main()
