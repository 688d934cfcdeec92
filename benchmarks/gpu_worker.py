"""One framework on a GPU: times the cases, and prints each figure as a line of JSON.

python benchmarks/gpu_worker.py FRAMEWORK [--quick]
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from frameworks import work

NETS = {**work.NETS, "784-4096-4096-10, 256": ((784, 4096, 4096, 10), 256)}
NORMALIZED = {"256x4096": (256, 4096), "65536x512": (65536, 512), "64x256x56x56": (64, 256, 56, 56)}
RUNS, LEAST_SECONDS = 5, 0.15
QUICK = {
    "nets": {"64-100-100-10, 32": NETS["64-100-100-10, 32"]}, "normalized": {"256x64": (256, 64), "4x6x5x5": (4, 6, 5, 5)},
    "micro": 10**5,
}  # fmt: skip

Call = Callable[[], Any]


def seconds(call: Call, wait: Callable[[Any], None], quick: bool) -> float:
    """The median seconds a call takes, of runs that wait once in the end."""
    for _ in range(3):
        wait(call())
    count, runs = 3, 2 if quick else RUNS
    while True:
        start = time.perf_counter()
        for _ in range(count):
            last = call()
        wait(last)
        once = time.perf_counter() - start
        if once >= LEAST_SECONDS or quick:
            break
        count = min(2000, max(2 * count, int(1.3 * count * LEAST_SECONDS / max(once, 1e-6))))
        if count == 2000:
            break
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        for _ in range(count):
            last = call()
        wait(last)
        found.append((time.perf_counter() - start) / count)
    return statistics.median(found)


def cases(offered: Any, quick: bool) -> Any:
    """The name of each case, and what makes its call."""
    nets = QUICK["nets"] if quick else NETS
    for title, (sizes, count) in nets.items():
        for optimizer in ("momentum", "adam"):
            yield f"MLP step {title}, {optimizer}", lambda s=sizes, c=count, o=optimizer: offered.mlp_step(s, c, o)
    for title, shape in (QUICK["normalized"] if quick else NORMALIZED).items():
        yield f"normalization forward {title}", lambda s=shape: offered.normalization(s, False)
        yield f"normalization backward {title}", lambda s=shape: offered.normalization(s, True)
    elements = QUICK["micro"] if quick else 10**7
    for kind in work.MICRO:
        yield f"{kind} of {elements:,}", lambda k=kind, n=elements: offered.micro(k, n)
    yield "CNN step 1x28x28", lambda: offered.cnn_step(*work.IMAGES["1x28x28"])
    yield "CNN step 3x32x32", lambda: offered.cnn_step(*work.IMAGES["3x32x32"])


def normalized_bytes(shape: tuple[int, ...], backward: bool) -> int:
    """What a normalization must move: x twice and y once; backward x and dy twice and dx once."""
    count = 4
    for size in shape:
        count *= size
    return count * (5 if backward else 3)


def main(name: str, quick: bool) -> None:
    """Measure, and print as one goes."""
    if name == "minigraph":
        from frameworks.gpu_minigraph import Minigraph as offered
    elif name == "jax":
        from frameworks.gpu_jax import Jax as offered
    else:
        from frameworks.gpu_torch import Torch as offered
    framework = offered(*(() if name in ("minigraph", "jax") else (name,)))
    print(json.dumps({"version": framework.version, "card": framework.card}), flush=True)
    for title, make in cases(framework, quick):
        try:
            call = make()
            print(json.dumps({title: seconds(call, framework.wait, quick)}), flush=True)
            if name == "minigraph":
                framework.note(title)
        except Exception as error:  # a case that a framework cannot do is left out
            print(f"{name}: {title}: {type(error).__name__}: {error}"[:400], file=sys.stderr, flush=True)
    if name == "minigraph":
        shapes = (QUICK["normalized"] if quick else NORMALIZED).items()
        moved = {
            f"normalization {way} {title}": normalized_bytes(shape, way == "backward")
            for title, shape in shapes
            for way in ("forward", "backward")
        }
        print(
            json.dumps({"bytes": moved, "launches": framework.launches, "copy": framework.copy_rate(quick, seconds)}),
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1], "--quick" in sys.argv[2:])
